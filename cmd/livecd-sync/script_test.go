package main

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/rogpeppe/go-internal/testscript"

	"github.com/livecd-sync/livecd-sync/internal/bmc"
	"github.com/livecd-sync/livecd-sync/internal/bmc/bmcsim"
	"github.com/livecd-sync/livecd-sync/internal/sim"
	"github.com/livecd-sync/livecd-sync/internal/sim/vm"
	"github.com/livecd-sync/livecd-sync/internal/sim/vm/vmtest"
	"github.com/livecd-sync/livecd-sync/internal/testenv"
)

// The streams of every run of the program in a script are kept in this file, to
// be searched for secrets at the script's end.
const streamsEnv = "SCRIPT_STREAMS"

func TestMain(m *testing.M) {
	testscript.Main(m, map[string]func(){"livecd-sync": scriptMain})
}

// scriptMain is main, with its streams kept as well.
func scriptMain() {
	out, err := io.Writer(os.Stdout), io.Writer(os.Stderr)
	if name := os.Getenv(streamsEnv); name != "" {
		f, openErr := os.OpenFile(name, os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o600)
		if openErr != nil {
			panic(openErr)
		}
		out, err = io.MultiWriter(out, f), io.MultiWriter(err, f)
	}
	os.Exit(runWith(out, err))
}

func TestScripts(t *testing.T) {
	testscript.Run(t, testscript.Params{
		Dir: "testdata/script", RequireExplicitExec: true, RequireUniqueNames: true,
		Setup: func(e *testscript.Env) error {
			e.Setenv(streamsEnv, filepath.Join(e.WorkDir, ".streams"))
			e.Setenv("HOME", e.WorkDir)
			e.Values[worldKey] = &scriptWorld{dir: e.WorkDir}
			e.Values[testingKey] = e.T()
			e.Defer(func() { e.Values[worldKey].(*scriptWorld).end(e.T().(testing.TB)) })
			return nil
		},
		Condition: condition,
		Cmds: map[string]func(*testscript.TestScript, bool, []string){
			"sim": cmdSim, "behave": cmdBehave, "fault": cmdFault, "power": cmdPower, "mount": cmdMount,
			"disk-boot": cmdDiskBoot, "up": cmdUp, "overlay": cmdOverlay, "holds": cmdHolds, "edit": cmdEdit, "resub": cmdResub, "requests": cmdRequests,
			"boots": cmdBoots, "sessions": cmdSessions, "handshakes": cmdHandshakes, "synced": cmdSynced, "killed": cmdKilled, "killedwhen": cmdKilledWhen,
			"status": cmdStatus, "count": cmdCount, "asked": cmdAsked, "waitfor": cmdWaitFor, "corrupt": cmdCorrupt,
			"etcd": cmdEtcd, "serial": cmdSerial, "bmc-ssh": cmdBMCSSH, "interact": cmdInteract, "tiny": cmdTiny,
		},
	})
}

// condition knows [qemu]: nodes can be run in QEMU. In CI they must.
func condition(name string) (bool, error) {
	if name != "qemu" {
		return false, fmt.Errorf("what is [%s]?", name)
	}
	err := vm.Installed()
	if os.Getenv("CI") != "" {
		return true, err
	}
	return err == nil, nil
}

type (
	worldKeyType   struct{}
	testingKeyType struct{}
)

var (
	worldKey   worldKeyType
	testingKey testingKeyType
)

// A scriptWorld is what a script talks to.
type scriptWorld struct {
	dir  string
	site *sim.Site
}

// end ends the simulation, and looks for its secrets in everything that was
// printed.
func (w *scriptWorld) end(t testing.TB) {
	t.Helper()
	if w.site == nil {
		return
	}
	streams, _ := os.ReadFile(filepath.Join(w.dir, ".streams"))
	secrets, _ := filepath.Glob(filepath.Join(w.dir, "site/secrets/*"))
	if len(secrets) == 0 {
		t.Error("there are no secrets to look for")
	}
	for _, name := range secrets {
		b, err := os.ReadFile(name)
		if err != nil {
			t.Error(err)
		}
		for line := range strings.Lines(string(b)) {
			if line = strings.TrimSpace(line); len(line) > 8 && !strings.HasPrefix(line, "---") && bytes.Contains(streams, []byte(line)) {
				t.Errorf("the secret in %s was printed", filepath.Base(name))
			}
		}
	}
	if err := w.site.Close(); err != nil {
		t.Error(err)
	}
}

func world(ts *testscript.TestScript) *scriptWorld { return ts.Value(worldKey).(*scriptWorld) }

func simNode(ts *testscript.TestScript, name string) *sim.Node {
	w := world(ts)
	if w.site == nil {
		ts.Fatalf("no simulation runs")
	}
	n := w.site.Node(name)
	if n == nil {
		ts.Fatalf("there is no node %q", name)
	}
	return n
}

// sim NAME=KIND:STATE... starts a site that wants pit-1.7; STATE is disk, off or
// an image's name; with ",login" its images want a first login on the console.
func cmdSim(ts *testscript.TestScript, _ bool, args []string) {
	w := world(ts)
	cfg := sim.Default(filepath.Join(w.dir, "site"))
	cfg.Nodes = nil
	for _, a := range args {
		name, rest, _ := strings.Cut(a, "=")
		kind, state, _ := strings.Cut(rest, ":")
		state, locked := strings.CutSuffix(state, ",login")
		spec := sim.NodeSpec{Name: name, Kind: bmcsim.Kind(kind), FirstLogin: locked}
		switch state {
		case "off":
			spec.Initial.Off = true
		case "", "disk":
		default:
			spec.Initial.Image = state
		}
		cfg.Nodes = append(cfg.Nodes, spec)
	}
	var err error
	w.site, err = sim.Start(context.Background(), cfg)
	ts.Check(err)
	ts.Setenv("LIVECD_SYNC_FILE", w.site.SiteFile())
	ts.Setenv("SITE", w.site.SiteFile())
}

// behave NODE JSON changes how the node's BMC behaves.
func cmdBehave(ts *testscript.TestScript, _ bool, args []string) {
	m := simNode(ts, args[0]).Machine()
	b := m.Behaviour()
	ts.Check(json.Unmarshal([]byte(args[1]), &b))
	m.SetBehaviour(b)
}

// fault NODE METHOD PATTERN NTH COUNT WHAT [STATUS] scripts a misfortune;
// fault NODE ends them.
func cmdFault(ts *testscript.TestScript, _ bool, args []string) {
	m := simNode(ts, args[0]).Machine()
	if len(args) == 1 {
		m.Faults()
		return
	}
	number := func(i int) int {
		if len(args) <= i {
			return 0
		}
		n, err := strconv.Atoi(args[i])
		ts.Check(err)
		return n
	}
	m.Faults(bmcsim.Fault{
		Method: strings.Trim(args[1], "*"), PathPattern: args[2], Nth: number(3), Count: number(4),
		Do: bmcsim.Do{What: bmcsim.What(args[5]), Status: number(6), To: "https://127.0.0.1:1/"},
	})
}

func cmdPower(ts *testscript.TestScript, _ bool, args []string) {
	simNode(ts, args[0]).Machine().SetPower(map[string]bmc.Power{"on": bmc.PowerOn, "off": bmc.PowerOff}[args[1]])
}

func cmdMount(ts *testscript.TestScript, _ bool, args []string) {
	simNode(ts, args[0]).Machine().SetMounted(args[1])
}

func cmdDiskBoot(ts *testscript.TestScript, _ bool, args []string) {
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	ts.Check(simNode(ts, args[0]).DiskBoot(ctx))
}

// up NODE waits until the node runs something.
func cmdUp(ts *testscript.TestScript, _ bool, args []string) {
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	ts.Check(simNode(ts, args[0]).Await(ctx, func(s sim.Status) bool { return s.Running != "" }))
}

// overlay NODE FILE CONTENT writes a file on the running node.
func cmdOverlay(ts *testscript.TestScript, _ bool, args []string) {
	ts.Check(simNode(ts, args[0]).WriteOverlay(args[1], args[2]))
}

// holds NODE FILE CONTENT: the running node's file has that content.
func cmdHolds(ts *testscript.TestScript, neg bool, args []string) {
	got, err := simNode(ts, args[0]).ReadOverlay(args[1])
	if same := err == nil && got == args[2]; same == neg {
		ts.Fatalf("%s on %s: %q, %v", args[1], args[0], got, err)
	}
}

// edit FROM TO replaces a text of the site file.
func cmdEdit(ts *testscript.TestScript, _ bool, args []string) {
	name := world(ts).site.SiteFile()
	b, err := os.ReadFile(name)
	ts.Check(err)
	if !bytes.Contains(b, []byte(args[0])) {
		ts.Fatalf("the site file has no %q", args[0])
	}
	ts.Check(os.WriteFile(name, bytes.ReplaceAll(b, []byte(args[0]), []byte(args[1])), 0o600))
}

// resub PATTERN TO replaces what matches in the site file.
func cmdResub(ts *testscript.TestScript, _ bool, args []string) {
	name := world(ts).site.SiteFile()
	b, err := os.ReadFile(name)
	ts.Check(err)
	pattern := regexp.MustCompile(args[0])
	if !pattern.Match(b) {
		ts.Fatalf("nothing in the site file matches %s", args[0])
	}
	ts.Check(os.WriteFile(name, pattern.ReplaceAll(b, []byte(args[1])), 0o600))
}

// requests NODE prints the requests since the last call, one a line.
func cmdRequests(ts *testscript.TestScript, _ bool, args []string) {
	m := simNode(ts, args[0]).Machine()
	for _, r := range m.Requests() {
		fmt.Fprintf(ts.Stdout(), "%s %s %d\n", r.Method, r.URI(), r.Status)
	}
	m.ForgetRequests()
}

// count NODE MAX: there were at most MAX requests since requests or count.
func cmdCount(ts *testscript.TestScript, _ bool, args []string) {
	m := simNode(ts, args[0]).Machine()
	most, err := strconv.Atoi(args[1])
	ts.Check(err)
	all := m.Requests()
	m.ForgetRequests()
	if len(all) > most {
		for _, r := range all {
			ts.Logf("%s %s %d", r.Method, r.Path, r.Status)
		}
		ts.Fatalf("%d requests, at most %d were expected", len(all), most)
	}
	ts.Logf("%s: %d requests", args[0], len(all))
}

// asked NODE FILE: the requests since the last such verb are those of FILE, a
// line each; one that begins with * is a wait's, and may come any number of
// times.
func cmdAsked(ts *testscript.TestScript, _ bool, args []string) {
	var got, want strings.Builder
	m := simNode(ts, args[0]).Machine()
	for _, r := range m.Requests() {
		fmt.Fprintln(&got, r.Method, strings.TrimPrefix(r.URI(), "/redfish/v1"))
	}
	m.ForgetRequests()
	for line := range strings.Lines(ts.ReadFile(args[1])) {
		often, waits := strings.CutPrefix(line, "* ")
		fmt.Fprintf(&want, "(%s)", regexp.QuoteMeta(often))
		if waits {
			want.WriteByte('*')
		}
	}
	if !regexp.MustCompile("^" + want.String() + "$").MatchString(got.String()) {
		ts.Fatalf("%s was asked\n%s", args[0], got.String())
	}
}

func number(ts *testscript.TestScript, what string, got int, want string) {
	if strconv.Itoa(got) != want {
		ts.Fatalf("%s: %d, want %s", what, got, want)
	}
}

func cmdBoots(ts *testscript.TestScript, _ bool, args []string) {
	number(ts, "boots of "+args[0], simNode(ts, args[0]).Machine().Stats().Boots, args[1])
}

func cmdSessions(ts *testscript.TestScript, _ bool, args []string) {
	number(ts, "open sessions on "+args[0], simNode(ts, args[0]).Machine().Stats().Sessions, args[1])
}

func cmdHandshakes(ts *testscript.TestScript, _ bool, args []string) {
	number(ts, "TLS handshakes with "+args[0], simNode(ts, args[0]).Handshakes(), args[1])
}

// synced: a plan of the whole site finds nothing left to do.
func cmdSynced(ts *testscript.TestScript, _ bool, _ []string) {
	if err := ts.Exec("livecd-sync", "plan", "--detailed-exitcode"); err != nil {
		ts.Fatalf("there is something left to do: %v", err)
	}
}

// status N ARGS...: livecd-sync ARGS ends with exit status N.
func cmdStatus(ts *testscript.TestScript, _ bool, args []string) {
	err := ts.Exec("livecd-sync", args[1:]...)
	got := 0
	if exit, ok := err.(*exec.ExitError); ok { //nolint:errorlint // ts.Exec returns it as it is
		got = exit.ExitCode()
	} else if err != nil {
		ts.Fatalf("%v", err)
	}
	number(ts, "exit status", got, args[0])
}

// program makes a command that runs livecd-sync, to be killed.
func program(ts *testscript.TestScript, args []string) *exec.Cmd {
	path := filepath.Join(strings.Split(ts.Getenv("PATH"), string(os.PathListSeparator))[0], "livecd-sync")
	cmd := exec.Command(path, args...)
	cmd.Dir = ts.Getenv("WORK")
	for _, name := range []string{"PATH", "HOME", "LIVECD_SYNC_FILE", streamsEnv} {
		cmd.Env = append(cmd.Env, name+"="+ts.Getenv(name))
	}
	return cmd
}

// killed NODE METHOD PATTERN ARGS... runs livecd-sync ARGS and kills it right
// after the node's BMC has acted on a request that matches, before it answers.
func cmdKilled(ts *testscript.TestScript, _ bool, args []string) {
	m := simNode(ts, args[0]).Machine()
	pattern := regexp.MustCompile(args[2])
	cmd := program(ts, args[3:])
	var out bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &out
	ts.Check(cmd.Start())
	process := cmd.Process
	var struck atomic.Bool
	m.BeforeAnswer(func(r bmcsim.Request) {
		if r.Method == args[1] && pattern.MatchString(r.Path) && struck.CompareAndSwap(false, true) {
			_ = process.Kill()
		}
	})
	defer m.BeforeAnswer(nil)
	err := cmd.Wait()
	if !struck.Load() {
		ts.Fatalf("it ended (%v) before a %s of %s was seen:\n%s", err, args[1], args[2], out.String())
	}
}

// killedwhen PATTERN ARGS... runs livecd-sync ARGS and kills it when a line that
// it writes to stderr matches.
func cmdKilledWhen(ts *testscript.TestScript, _ bool, args []string) {
	pattern := regexp.MustCompile(args[0])
	cmd := program(ts, args[1:])
	stderr, err := cmd.StderrPipe()
	ts.Check(err)
	ts.Check(cmd.Start())
	var seen strings.Builder
	struck := false
	for lines := bufio.NewScanner(stderr); lines.Scan(); {
		fmt.Fprintln(&seen, lines.Text())
		if !struck && pattern.MatchString(lines.Text()) {
			struck = true
			_ = cmd.Process.Kill()
		}
	}
	err = cmd.Wait()
	if !struck {
		ts.Fatalf("it ended (%v) without a line that matches %s:\n%s", err, args[0], seen.String())
	}
}

// waitfor FILE PATTERN waits until the file, which something writes in the
// background, matches.
func cmdWaitFor(ts *testscript.TestScript, _ bool, args []string) {
	pattern := regexp.MustCompile(args[1])
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	limit := time.After(30 * time.Second)
	for {
		b, _ := os.ReadFile(ts.MkAbs(args[0]))
		if pattern.Match(b) {
			return
		}
		select {
		case <-tick.C:
		case <-limit:
			ts.Fatalf("%s never matched %s:\n%s", args[0], args[1], b)
		}
	}
}

// corrupt GLOB flips a bit in the middle of the files.
func cmdCorrupt(ts *testscript.TestScript, _ bool, args []string) {
	names, err := filepath.Glob(ts.MkAbs(args[0]))
	ts.Check(err)
	if len(names) == 0 {
		ts.Fatalf("%s matches nothing", args[0])
	}
	for _, name := range names {
		b, err := os.ReadFile(name)
		ts.Check(err)
		b[len(b)/2] ^= 1
		ts.Check(os.WriteFile(name, b, 0o600))
	}
}

// tiny ISO DISK makes an image and a disk with a tiny operating system each, for
// nodes in QEMU.
func cmdTiny(ts *testscript.TestScript, _ bool, args []string) {
	var iso bytes.Buffer
	ts.Check(vmtest.CD(&iso, "TINY", "tiny", time.Time{}))
	ts.Check(os.WriteFile(ts.MkAbs(args[0]), iso.Bytes(), 0o600))
	ts.Check(vmtest.Disk(ts.MkAbs(args[1]), "disk"))
}

// etcd starts an etcd and has the site file keep its locks there.
func cmdEtcd(ts *testscript.TestScript, _ bool, args []string) {
	t := ts.Value(testingKey).(testing.TB)
	if _, err := exec.LookPath("etcd"); err != nil {
		testenv.Unable(t, "there is no etcd: apt-get install etcd-server")
	}
	client, peer := fmt.Sprintf("http://127.0.0.1:%d", testenv.FreePort(t)), fmt.Sprintf("http://127.0.0.1:%d", testenv.FreePort(t))
	cmd := exec.Command("etcd", "--data-dir", filepath.Join(world(ts).dir, "etcd"), "--listen-client-urls", client, "--advertise-client-urls", client,
		"--listen-peer-urls", peer, "--initial-advertise-peer-urls", peer, "--initial-cluster", "default="+peer)
	ts.Check(cmd.Start())
	ts.Defer(func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
	})
	f, err := os.OpenFile(world(ts).site.SiteFile(), os.O_APPEND|os.O_WRONLY, 0o600)
	ts.Check(err)
	_, err = fmt.Fprintf(f, "lock: {etcd: [%q], lease: %s}\n", client, args[0])
	ts.Check(errors.Join(err, f.Close()))
}
