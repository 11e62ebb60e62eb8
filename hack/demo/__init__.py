"""The parts of `hack/vmcp_demo.py`: servers that others wrote, a stand-in for the kubelet, and real clients."""
