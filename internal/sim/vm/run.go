package vm

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"runtime"
	"strings"
	"sync"
	"syscall"
	"time"
)

// Boot says what a machine is switched on with.
type Boot struct {
	CD     string // the URL of what is in the drive, http or https; "" for nothing
	FromCD bool   // the firmware tries the CD first; else it does not look at it
}

// A Run is a machine from power on to power off: one QEMU process. Its methods
// are safe for concurrent use.
type Run struct {
	machine *Machine
	monitor *monitor
	cmd     *exec.Cmd

	media sync.Mutex // one change of the CD at a time
	cd    string     // its URL; "" while the drive is empty
	cdErr error      // why the CD could not be read when the power came on

	prompted, done chan struct{}

	mu     sync.Mutex
	reason string // of the SHUTDOWN event
	end    End
}

// End is how a run came to its end.
type End int

// The ends of a run.
const (
	EndNone     End = iota // it goes on
	EndPower               // the power was cut
	EndShutdown            // the guest switched itself off
	EndReset               // the guest asked for a reset
	EndCrash               // QEMU failed
)

// startWithin is how long QEMU may take until its firmware runs.
const startWithin = 30 * time.Second

// Start switches the machine on. It returns once the firmware runs. A CD that
// cannot be read is no error: the firmware finds none in the drive, and CDError
// tells why.
func (m *Machine) Start(ctx context.Context, b Boot) (*Run, error) {
	ctx, cancel := context.WithTimeout(ctx, startWithin)
	defer cancel()
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.running != nil && m.running.End() == EndNone {
		return nil, fmt.Errorf("vm: %s is on already", m.cfg.Name)
	}
	r := &Run{machine: m, prompted: make(chan struct{}), done: make(chan struct{})}
	if err := r.launch(b); err != nil {
		return nil, err
	}
	m.running = r
	err := r.monitor.greet(ctx)
	if err == nil {
		r.cdErr = r.SetCD(ctx, b.CD)
		err = r.monitor.call(ctx, "cont", nil, nil)
	}
	if err != nil {
		r.Kill()
		return nil, fmt.Errorf("vm: switch %s on: %w%s", m.cfg.Name, err, r.said())
	}
	return r, nil
}

// launch starts QEMU, stopped before its first instruction.
func (r *Run) launch(b Boot) error {
	m := r.machine
	args, err := m.arguments(b)
	if err != nil {
		return err
	}
	log, err := os.OpenFile(m.file("qemu.log"), os.O_CREATE|os.O_TRUNC|os.O_WRONLY, 0o600)
	if err != nil {
		return fmt.Errorf("vm: keep a log of QEMU's messages: %w", err)
	}
	defer func() { _ = log.Close() }() // QEMU's own copy stays
	qmp, itsQMP, err := pair()
	if err != nil {
		return err
	}
	defer func() { _ = itsQMP.Close() }()
	serial, itsSerial, err := pair()
	if err != nil {
		return errors.Join(err, qmp.Close())
	}
	defer func() { _ = itsSerial.Close() }()
	r.cmd = exec.Command(m.qemu, args...) //nolint:noctx // it runs until the power is cut
	r.cmd.Dir, r.cmd.Stdout, r.cmd.Stderr = m.cfg.Dir, log, log
	r.cmd.ExtraFiles = []*os.File{itsQMP, itsSerial} // 3 and 4 to it
	// A group of its own: Ctrl-C in a terminal is for us, and not for the machine.
	r.cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL}
	started := make(chan error)
	r.monitor = newMonitor(qmp, r.noted)
	go r.watch(started)
	if err := <-started; err != nil {
		return errors.Join(fmt.Errorf("vm: start QEMU for %s: %w", m.cfg.Name, err), qmp.Close(), serial.Close())
	}
	m.console.attach(serial, func() { close(r.prompted) })
	return nil
}

// watch starts QEMU and waits for its end. The signal that QEMU gets when this
// program dies comes already when the thread ends that started it (prctl(2)), so
// that thread is kept here all the time.
func (r *Run) watch(started chan<- error) {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	err := r.cmd.Start()
	started <- err
	if err != nil {
		return
	}
	_ = r.cmd.Wait() // killed, or as the last event says
	<-r.monitor.gone
	_ = r.monitor.conn.Close()
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.end == EndNone {
		r.end = ended(r.reason)
	}
	close(r.done)
}

// ended is what QEMU's reason (its ShutdownCause) means.
func ended(reason string) End {
	switch reason {
	case "guest-shutdown":
		return EndShutdown
	case "guest-reset":
		return EndReset
	}
	return EndCrash
}

// noted takes an event.
func (r *Run) noted(e event) {
	if e.Event != "SHUTDOWN" {
		return
	}
	var data struct {
		Reason string `json:"reason"`
	}
	_ = json.Unmarshal(e.Data, &data) // an older QEMU gives no reason
	r.mu.Lock()
	defer r.mu.Unlock()
	r.reason = data.Reason
}

// pair makes a connection, of which one end is for QEMU.
func pair() (ours net.Conn, its *os.File, err error) {
	fds, err := syscall.Socketpair(syscall.AF_UNIX, syscall.SOCK_STREAM|syscall.SOCK_CLOEXEC, 0)
	if err != nil {
		return nil, nil, fmt.Errorf("vm: make a connection to QEMU: %w", err)
	}
	f := os.NewFile(uintptr(fds[0]), "ours")
	defer func() { _ = f.Close() }() // FileConn copies it
	its = os.NewFile(uintptr(fds[1]), "QEMU's")
	if ours, err = net.FileConn(f); err != nil {
		return nil, nil, errors.Join(fmt.Errorf("vm: make a connection to QEMU: %w", err), its.Close())
	}
	return ours, its, nil
}

// Prompted is closed once the machine has asked for a login on its console.
func (r *Run) Prompted() <-chan struct{} { return r.prompted }

// Done is closed at the end of the run.
func (r *Run) Done() <-chan struct{} { return r.done }

// End tells how the run ended.
func (r *Run) End() End {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.end
}

// CDError is why the CD could not be read when the power came on, or nil.
func (r *Run) CDError() error { return r.cdErr }

// Err is what QEMU said where it failed, or nil.
func (r *Run) Err() error {
	if r.End() != EndCrash {
		return nil
	}
	return errors.New("vm: QEMU failed" + r.said())
}

// Kill cuts the power, and returns when QEMU is gone.
func (r *Run) Kill() {
	r.mu.Lock()
	if r.end == EndNone {
		r.end = EndPower
	}
	r.mu.Unlock()
	_ = r.cmd.Process.Kill() // fails once it is gone
	<-r.done
}

// PressPowerButton asks the guest to shut down, by ACPI. It may take no notice.
func (r *Run) PressPowerButton(ctx context.Context) error {
	return r.monitor.call(ctx, "system_powerdown", nil, nil)
}

// said is the end of QEMU's messages, for an error.
func (r *Run) said() string {
	f, err := os.Open(r.machine.file("qemu.log"))
	if err != nil {
		return ""
	}
	defer func() { _ = f.Close() }()
	const most = 1 << 10
	if st, err := f.Stat(); err == nil && st.Size() > most {
		_, _ = f.Seek(-most, io.SeekEnd)
	}
	b, _ := io.ReadAll(f)
	if text := strings.TrimSpace(string(b)); text != "" {
		return ": " + text
	}
	return ""
}
