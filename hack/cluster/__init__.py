"""A real Kubernetes of one node on this machine: pods in runc, Services, DNS; no container engine, no image registry.

From a shell (`python -m hack.cluster --help`); `make cluster-up`, `make cluster-down` and `make e2e-cluster` call it:

    python -m hack.cluster up          # build what is missing, start; prints `export KUBECONFIG=...`
    python -m hack.cluster images      # build the images of operator and gateway from the Dockerfiles and import them
    python -m hack.cluster status
    python -m hack.cluster down        # stop everything and undo every trace, also after a crash

It needs Linux, root, the capabilities of a container runtime, Go, and a few packages of Debian (`up` says which are
missing). docs/design/011-cluster.md says how it is put together.
"""
