module vmcpbench

go 1.22
