// Command vmcpbench holds the two ends of every gateway benchmark: an MCP backend and a load generator.
//
// Both are written for one core and for being much faster than what they measure: the backend answers from a scan of
// the body, the load generator speaks HTTP/1.1 over its own sockets with precomputed requests.
package main

import (
	"fmt"
	"os"
)

func main() {
	if len(os.Args) < 2 {
		usage()
	}
	var err error
	switch os.Args[1] {
	case "backend":
		err = runBackend(os.Args[2:])
	case "load":
		err = runLoad(os.Args[2:])
	case "sessions":
		err = runSessions(os.Args[2:])
	default:
		usage()
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "vmcpbench:", err)
		os.Exit(1)
	}
}

func usage() {
	fmt.Fprintln(os.Stderr, "usage: vmcpbench backend|load|sessions [flags]; each knows -h")
	os.Exit(2)
}
