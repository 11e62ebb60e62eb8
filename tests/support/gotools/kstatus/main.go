// kstatus tells, for each object on standard input (one JSON object per line), what kstatus makes of it: the library by
// which Flux, Helm and kpt decide whether an object is done. One line of JSON per object comes back.
package main

import (
	"bufio"
	"encoding/json"
	"fmt"
	"os"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"sigs.k8s.io/cli-utils/pkg/kstatus/status"
)

func main() {
	lines := bufio.NewScanner(os.Stdin)
	lines.Buffer(nil, 16<<20)
	for lines.Scan() {
		object := &unstructured.Unstructured{}
		if err := object.UnmarshalJSON(lines.Bytes()); err != nil {
			fail(err)
		}
		result, err := status.Compute(object)
		if err != nil {
			fail(err)
		}
		answer, err := json.Marshal(map[string]string{"status": result.Status.String(), "message": result.Message})
		if err != nil {
			fail(err)
		}
		fmt.Println(string(answer))
	}
	if err := lines.Err(); err != nil {
		fail(err)
	}
}

func fail(err error) {
	fmt.Fprintln(os.Stderr, err)
	os.Exit(1)
}
