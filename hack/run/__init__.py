"""The demo: the operator on a control plane of its own, with the samples (`make run`, `make run ONCE=1`)."""
