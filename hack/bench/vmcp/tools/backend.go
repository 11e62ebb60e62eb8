package main

import (
	"crypto/rand"
	"encoding/hex"
	"encoding/json"
	"flag"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"sync/atomic"
	"time"
)

const modern = "2026-07-28"

// backend is a dual-era MCP server with one real tool, echo, and as many idle ones as wanted.
type backend struct {
	era     string
	sse     bool
	delay   time.Duration
	tools   json.RawMessage
	pad     string
	calls   atomic.Int64
	session atomic.Int64
}

type envelope struct {
	ID     json.RawMessage `json:"id"`
	Method string          `json:"method"`
	Params struct {
		Name      string `json:"name"`
		Arguments struct {
			Text string `json:"text"`
			Size int    `json:"size"`
		} `json:"arguments"`
	} `json:"params"`
}

func runBackend(args []string) error {
	flags := flag.NewFlagSet("backend", flag.ExitOnError)
	listen := flags.String("listen", "127.0.0.1:0", "address; port 0 picks one, which is printed")
	count := flags.Int("count", 1, "servers, on ports that follow each other (port 0: any)")
	tools := flags.Int("tools", 10, "tools in the list")
	era := flags.String("era", "both", "modern, legacy or both")
	sse := flags.Bool("sse", false, "answer tools/call as an event stream")
	delay := flags.Duration("delay", 0, "wait before every answer")
	_ = flags.Parse(args)
	host, _, err := net.SplitHostPort(*listen)
	if err != nil {
		return err
	}
	failed := make(chan error)
	for index := 0; index < *count; index++ {
		address := *listen
		if index > 0 {
			address = net.JoinHostPort(host, "0")
		}
		listener, err := net.Listen("tcp", address)
		if err != nil {
			return err
		}
		b := &backend{era: *era, sse: *sse, delay: *delay, tools: toolList(*tools), pad: strings.Repeat("x", 1<<20)}
		fmt.Printf("listening %s\n", listener.Addr())
		go func() { failed <- http.Serve(listener, b) }()
	}
	return <-failed
}

func toolList(count int) json.RawMessage {
	type tool map[string]any
	list := []tool{}
	for index := 0; index < count; index++ {
		name := "echo"
		if index > 0 {
			name = fmt.Sprintf("tool_%04d", index)
		}
		list = append(list, tool{
			"name": name, "title": "Tool " + name, "description": "Returns what it was given. " + strings.Repeat("words ", 20),
			"inputSchema": tool{"type": "object", "properties": tool{
				"text": tool{"type": "string", "description": "What to return"}, "size": tool{"type": "integer"}}},
			"annotations": tool{"readOnlyHint": true},
		})
	}
	raw, _ := json.Marshal(list)
	return raw
}

func (b *backend) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if r.Method != http.MethodPost {
		if r.Method == http.MethodDelete {
			w.WriteHeader(http.StatusOK)
			return
		}
		w.Header().Set("Allow", "POST")
		w.WriteHeader(http.StatusMethodNotAllowed)
		return
	}
	body, err := io.ReadAll(r.Body)
	if err != nil {
		return
	}
	var request envelope
	if json.Unmarshal(body, &request) != nil {
		http.Error(w, "not JSON", http.StatusBadRequest)
		return
	}
	if request.ID == nil {
		w.WriteHeader(http.StatusAccepted)
		return
	}
	if b.delay > 0 {
		time.Sleep(b.delay)
	}
	isModern := r.Header.Get("Mcp-Protocol-Version") == modern
	if isModern && b.era == "legacy" {
		answer(w, http.StatusBadRequest, `{"jsonrpc":"2.0","id":null,"error":{"code":-32000,"message":"Bad Request: No valid session ID provided"}}`)
		return
	}
	if !isModern && b.era == "modern" {
		answer(w, http.StatusBadRequest, fmt.Sprintf(`{"jsonrpc":"2.0","id":%s,"error":{"code":-32022,"message":"unsupported","data":{"supported":["2026-07-28"],"requested":"2025-11-25"}}}`, request.ID))
		return
	}
	b.dispatch(w, r, &request, isModern)
}

func (b *backend) dispatch(w http.ResponseWriter, r *http.Request, request *envelope, isModern bool) {
	stamp, cache := "", ""
	if isModern {
		stamp = `,"resultType":"complete","_meta":{"io.modelcontextprotocol/serverInfo":{"name":"bench","version":"1"}}`
		cache = `,"ttlMs":60000,"cacheScope":"public"`
	}
	result := ""
	switch request.Method {
	case "initialize":
		id := make([]byte, 16)
		_, _ = rand.Read(id)
		w.Header().Set("Mcp-Session-Id", hex.EncodeToString(id))
		result = `{"protocolVersion":"2025-11-25","capabilities":{"tools":{}},"serverInfo":{"name":"bench","version":"1"}}`
	case "server/discover":
		result = `{"supportedVersions":["2026-07-28"],"capabilities":{"tools":{}}` + stamp + cache + `}`
	case "tools/list":
		result = `{"tools":` + string(b.tools) + stamp + cache + `}`
	case "tools/call":
		b.calls.Add(1)
		text := request.Params.Arguments.Text
		if size := request.Params.Arguments.Size; size > 0 && size <= len(b.pad) {
			text = b.pad[:size]
		}
		quoted, _ := json.Marshal(text)
		result = `{"content":[{"type":"text","text":` + string(quoted) + `}]` + stamp + `}`
	case "ping":
		result = `{}`
	default:
		answer(w, http.StatusOK, fmt.Sprintf(`{"jsonrpc":"2.0","id":%s,"error":{"code":-32601,"message":"no such method"}}`, request.ID))
		return
	}
	body := `{"jsonrpc":"2.0","id":` + string(request.ID) + `,"result":` + result + `}`
	if b.sse && request.Method == "tools/call" {
		w.Header().Set("Content-Type", "text/event-stream")
		_, _ = io.WriteString(w, "event: message\ndata: "+body+"\n\n")
		return
	}
	answer(w, http.StatusOK, body)
}

func answer(w http.ResponseWriter, status int, body string) {
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("Content-Length", fmt.Sprint(len(body)))
	w.WriteHeader(status)
	_, _ = io.WriteString(w, body)
}
