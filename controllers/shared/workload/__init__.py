"""What a kind that deploys is made of, whatever it is that runs: every function takes plain values.

`pod` makes templates and Deployments, `network` what stands before the pods, `identity` who they are; `restrictions`
says what a user's template may ask for; `rollout` reads how far the pods have come, `pacing` says when a changed
template may reach them; `apply` writes objects and knows its own again, `takeover` makes what another operator wrote
ours.
"""
