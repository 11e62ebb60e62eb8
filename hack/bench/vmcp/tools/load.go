package main

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"net"
	"net/url"
	"os"
	"sort"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"
)

// client is one connection with one MCP session on it.
type client struct {
	conn    net.Conn
	in      *bufio.Reader
	target  *url.URL
	session string
	buffer  []byte
}

func dial(target *url.URL) (*client, error) {
	conn, err := net.DialTimeout("tcp", target.Host, 5*time.Second)
	if err != nil {
		return nil, err
	}
	return &client{conn: conn, in: bufio.NewReaderSize(conn, 64<<10), target: target}, nil
}

// request builds a whole HTTP request, sent again and again as it is.
func (c *client) request(era, method, name, body string) []byte {
	var out bytes.Buffer
	fmt.Fprintf(&out, "POST %s HTTP/1.1\r\nHost: %s\r\nContent-Type: application/json\r\nAccept: application/json, text/event-stream\r\n", c.target.Path, c.target.Host)
	if era == "modern" {
		fmt.Fprintf(&out, "MCP-Protocol-Version: 2026-07-28\r\nMcp-Method: %s\r\n", method)
		if name != "" {
			fmt.Fprintf(&out, "Mcp-Name: %s\r\n", name)
		}
	} else if c.session != "" {
		fmt.Fprintf(&out, "MCP-Protocol-Version: 2025-11-25\r\nMcp-Session-Id: %s\r\n", c.session)
	}
	for _, header := range extraHeaders {
		out.WriteString(header + "\r\n")
	}
	fmt.Fprintf(&out, "Content-Length: %d\r\n\r\n%s", len(body), body)
	return out.Bytes()
}

var extraHeaders []string

// roundTrip sends raw bytes and returns status and body of the answer.
func (c *client) roundTrip(raw []byte) (int, []byte, error) {
	if _, err := c.conn.Write(raw); err != nil {
		return 0, nil, err
	}
	line, err := c.in.ReadSlice('\n')
	if err != nil || len(line) < 12 {
		return 0, nil, fmt.Errorf("no status line: %w", err)
	}
	status, err := strconv.Atoi(string(line[9:12]))
	if err != nil {
		return 0, nil, err
	}
	length, chunked := -1, false
	for {
		line, err = c.in.ReadSlice('\n')
		if err != nil {
			return 0, nil, err
		}
		if len(line) <= 2 {
			break
		}
		name, value, _ := bytes.Cut(bytes.TrimRight(line, "\r\n"), []byte(":"))
		value = bytes.TrimSpace(value)
		switch {
		case bytes.EqualFold(name, []byte("content-length")):
			length, err = strconv.Atoi(string(value))
		case bytes.EqualFold(name, []byte("transfer-encoding")):
			chunked = true
		case bytes.EqualFold(name, []byte("mcp-session-id")):
			c.session = string(value)
		}
		if err != nil {
			return 0, nil, err
		}
	}
	c.buffer = c.buffer[:0]
	if chunked {
		return status, c.buffer, c.readChunks()
	}
	if length > 0 {
		if cap(c.buffer) < length {
			c.buffer = make([]byte, 0, length)
		}
		c.buffer = c.buffer[:length]
		_, err = io.ReadFull(c.in, c.buffer)
	}
	return status, c.buffer, err
}

func (c *client) readChunks() error {
	for {
		line, err := c.in.ReadSlice('\n')
		if err != nil {
			return err
		}
		size, err := strconv.ParseInt(strings.TrimSpace(string(line)), 16, 64)
		if err != nil {
			return err
		}
		start := len(c.buffer)
		c.buffer = append(c.buffer, make([]byte, size+2)...)
		if _, err = io.ReadFull(c.in, c.buffer[start:]); err != nil {
			return err
		}
		c.buffer = c.buffer[:len(c.buffer)-2]
		if size == 0 {
			return nil
		}
	}
}

const meta = `"_meta":{"io.modelcontextprotocol/protocolVersion":"2026-07-28","io.modelcontextprotocol/clientCapabilities":{},"io.modelcontextprotocol/clientInfo":{"name":"load","version":"1"}}`

func (c *client) handshake() error {
	status, body, err := c.roundTrip(c.request("legacy", "initialize", "", `{"jsonrpc":"2.0","id":0,"method":"initialize","params":{"protocolVersion":"2025-11-25","capabilities":{},"clientInfo":{"name":"load","version":"1"}}}`))
	if err != nil || status != 200 {
		return fmt.Errorf("initialize: status %d, %v, %.200s", status, err, body)
	}
	_, _, err = c.roundTrip(c.request("legacy", "", "", `{"jsonrpc":"2.0","method":"notifications/initialized"}`))
	return err
}

func callBody(era, tool string, size int) string {
	arguments := fmt.Sprintf(`{"text":"%s"}`, strings.Repeat("x", 64))
	if size != 64 {
		arguments = fmt.Sprintf(`{"size":%d}`, size)
	}
	if era == "modern" {
		return fmt.Sprintf(`{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"%s","arguments":%s,%s}}`, tool, arguments, meta)
	}
	return fmt.Sprintf(`{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"%s","arguments":%s}}`, tool, arguments)
}

type result struct {
	Calls   int     `json:"calls"`
	Total   int     `json:"total"`
	Errors  int     `json:"errors"`
	Rate    float64 `json:"rate"`
	P50     float64 `json:"p50_ms"`
	P90     float64 `json:"p90_ms"`
	P99     float64 `json:"p99_ms"`
	Max     float64 `json:"max_ms"`
	Problem string  `json:"problem,omitempty"`
}

func runLoad(args []string) error {
	flags := flag.NewFlagSet("load", flag.ExitOnError)
	address := flags.String("url", "", "MCP endpoint")
	era := flags.String("era", "modern", "modern or legacy")
	clients := flags.Int("clients", 1, "connections, each with its session")
	seconds := flags.Float64("seconds", 3, "time that counts")
	warm := flags.Float64("warm", 0.5, "time before that")
	tool := flags.String("tools", "echo", "names of tools, comma separated; taken in turn by the clients")
	size := flags.Int("size", 64, "bytes of the answer's text")
	header := flags.String("header", "", "an extra header line, such as 'Authorization: Bearer x'")
	_ = flags.Parse(args)
	target, err := url.Parse(*address)
	if err != nil || target.Host == "" {
		return errors.New("-url is needed")
	}
	if *header != "" {
		extraHeaders = append(extraHeaders, *header)
	}
	tools := strings.Split(*tool, ",")
	var counting, stop atomic.Bool
	var group sync.WaitGroup
	var lock sync.Mutex
	all := []float64{}
	out := result{}
	ready := make(chan error, *clients)
	for index := 0; index < *clients; index++ {
		name := tools[index%len(tools)]
		group.Add(1)
		go func() {
			defer group.Done()
			c, err := dial(target)
			if err == nil && *era == "legacy" {
				err = c.handshake()
			}
			ready <- err
			if err != nil {
				return
			}
			defer c.conn.Close()
			times, total, bad, problem := c.hammer(*era, name, *size, &counting, &stop)
			lock.Lock()
			defer lock.Unlock()
			all = append(all, times...)
			out.Total += total
			out.Errors += bad
			if problem != "" {
				out.Problem = problem
			}
		}()
	}
	for index := 0; index < *clients; index++ {
		if err := <-ready; err != nil {
			return err
		}
	}
	time.Sleep(time.Duration(*warm * float64(time.Second)))
	counting.Store(true)
	begin := time.Now()
	time.Sleep(time.Duration(*seconds * float64(time.Second)))
	counting.Store(false)
	elapsed := time.Since(begin).Seconds()
	stop.Store(true)
	group.Wait()
	sort.Float64s(all)
	at := func(q float64) float64 {
		if len(all) == 0 {
			return 0
		}
		return all[min(len(all)-1, int(q*float64(len(all))))]
	}
	out.Calls, out.Rate = len(all), float64(len(all))/elapsed
	out.P50, out.P90, out.P99, out.Max = at(.5), at(.9), at(.99), at(1)
	raw, _ := json.Marshal(out)
	fmt.Println(string(raw))
	return nil
}

func (c *client) hammer(era, tool string, size int, counting, stop *atomic.Bool) (times []float64, total, bad int, problem string) {
	raw := c.request(era, "tools/call", tool, callBody(era, tool, size))
	// Members come in any order, and the text may be long: what follows the start of the content is not looked at.
	want := []byte(`"content":[{`)
	for !stop.Load() {
		_ = c.conn.SetDeadline(time.Now().Add(30 * time.Second))
		counted := counting.Load()
		begin := time.Now()
		status, body, err := c.roundTrip(raw)
		took := time.Since(begin).Seconds() * 1000
		if err != nil || status != 200 || !bytes.Contains(body[:min(len(body), 400)], want) || bytes.Contains(body[:min(len(body), 400)], []byte(`"isError":true`)) {
			bad++
			problem = fmt.Sprintf("status %d, error %v, %.300s", status, err, body)
			if err != nil {
				return
			}
			continue
		}
		total++
		if counted && counting.Load() {
			times = append(times, took)
		}
	}
	return
}

// runSessions opens legacy sessions, one call in each, and keeps them until its standard input closes.
func runSessions(args []string) error {
	flags := flag.NewFlagSet("sessions", flag.ExitOnError)
	address := flags.String("url", "", "MCP endpoint")
	count := flags.Int("count", 1000, "sessions")
	tool := flags.String("tool", "echo", "called once in each")
	_ = flags.Parse(args)
	target, err := url.Parse(*address)
	if err != nil || target.Host == "" {
		return errors.New("-url is needed")
	}
	c, err := dial(target)
	if err != nil {
		return err
	}
	for index := 0; index < *count; index++ {
		c.session = ""
		if err := c.handshake(); err != nil {
			return err
		}
		if status, body, err := c.roundTrip(c.request("legacy", "", "", callBody("legacy", *tool, 64))); err != nil || status != 200 {
			return fmt.Errorf("call: status %d, %v, %.200s", status, err, body)
		}
	}
	fmt.Println("open", *count)
	_, _ = io.Copy(io.Discard, os.Stdin)
	return nil
}
