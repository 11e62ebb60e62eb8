"""The gateway that a VirtualMCPServer's pods run."""
