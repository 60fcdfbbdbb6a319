package vm

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"sync"
)

// monitor speaks QMP with one QEMU process, as the protocol's specification has
// it (QEMU's docs/interop/qmp-spec). Safe for concurrent use.
type monitor struct {
	conn    net.Conn
	onEvent func(event)

	write sync.Mutex // one command at a time on the wire

	greeted, gone chan struct{} // closed when QEMU has spoken, and when it says no more

	mu      sync.Mutex
	lastID  int
	waiting map[int]chan answer
}

// answer is any line that QEMU writes.
type answer struct {
	QMP    json.RawMessage `json:"QMP"` // the greeting
	ID     int             `json:"id"`
	Return json.RawMessage `json:"return"`
	Error  *struct {
		Class string `json:"class"`
		Desc  string `json:"desc"`
	} `json:"error"`
	event
}

type event struct {
	Event string          `json:"event"`
	Data  json.RawMessage `json:"data"`
}

var errGone = errors.New("QEMU has ended")

// maxAnswer bounds one line, in bytes.
const maxAnswer = 4 << 20

// newMonitor listens to QEMU. onEvent is called from a goroutine of the monitor's,
// which ends when the connection does.
func newMonitor(conn net.Conn, onEvent func(event)) *monitor {
	m := &monitor{
		conn: conn, onEvent: onEvent, waiting: map[int]chan answer{},
		greeted: make(chan struct{}), gone: make(chan struct{}),
	}
	go m.read()
	return m
}

// greet waits for QEMU's greeting and agrees on capabilities, before any call.
func (m *monitor) greet(ctx context.Context) error {
	select {
	case <-m.greeted:
	case <-m.gone:
		return errGone
	case <-ctx.Done():
		return ctx.Err()
	}
	return m.call(ctx, "qmp_capabilities", nil, nil)
}

func (m *monitor) read() {
	defer close(m.gone)
	lines := bufio.NewScanner(m.conn)
	lines.Buffer(nil, maxAnswer)
	for lines.Scan() {
		var a answer
		if json.Unmarshal(lines.Bytes(), &a) != nil {
			return // this is not QMP
		}
		switch {
		case a.QMP != nil:
			close(m.greeted)
		case a.Event != "":
			m.onEvent(a.event)
		default:
			m.mu.Lock()
			to := m.waiting[a.ID]
			delete(m.waiting, a.ID)
			m.mu.Unlock()
			if to != nil {
				to <- a
			}
		}
	}
}

// call runs a command. arguments and result are what encoding/json takes; nil for
// none.
func (m *monitor) call(ctx context.Context, command string, arguments, result any) error {
	reply := make(chan answer, 1)
	m.mu.Lock()
	m.lastID++
	id := m.lastID
	m.waiting[id] = reply
	m.mu.Unlock()
	defer func() {
		m.mu.Lock()
		delete(m.waiting, id)
		m.mu.Unlock()
	}()
	if err := m.send(command, id, arguments); err != nil {
		return err
	}
	select {
	case a := <-reply:
		if a.Error != nil {
			return fmt.Errorf("vm: QEMU refuses %s: %s", command, a.Error.Desc)
		}
		if result == nil {
			return nil
		}
		if err := json.Unmarshal(a.Return, result); err != nil {
			return fmt.Errorf("vm: QEMU's answer to %s: %w", command, err)
		}
		return nil
	case <-m.gone:
		return fmt.Errorf("vm: %s: %w", command, errGone)
	case <-ctx.Done():
		return fmt.Errorf("vm: %s: %w", command, ctx.Err())
	}
}

func (m *monitor) send(command string, id int, arguments any) error {
	request := map[string]any{"execute": command, "id": id}
	if arguments != nil {
		request["arguments"] = arguments
	}
	b, err := json.Marshal(request)
	if err != nil {
		return fmt.Errorf("vm: %s: %w", command, err)
	}
	m.write.Lock()
	defer m.write.Unlock()
	if _, err := m.conn.Write(append(b, '\n')); err != nil {
		return fmt.Errorf("vm: %s: %w", command, errGone)
	}
	return nil
}
