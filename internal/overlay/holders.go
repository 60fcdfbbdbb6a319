package overlay

import (
	"cmp"
	"context"
	_ "embed"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
)

var (
	//go:embed scripts/holders.sh
	holdersScript string
	//go:embed scripts/processes.sh
	processesScript string
)

// A Holder is what has to be restarted after a restore: processes that still
// work with files, libraries or directories that were replaced or removed.
type Holder struct {
	Unit    string   `json:"unit,omitempty"` // of systemd, "" for what is no service
	Command string   `json:"command"`
	PIDs    []int    `json:"pids"`
	Files   []string `json:"files"`          // at most MaxHeld
	More    int      `json:"more,omitempty"` // files beyond that
	// Restarted: the service was restarted since (RestartServices).
	Restarted bool `json:"restarted,omitempty"`
}

// The bounds of what a report says of holders.
const (
	MaxHolders = 100
	MaxHeld    = 10
)

// findHolders lists what has to be restarted. That it cannot be told is no
// failure of the restore, which is complete by then.
func (r *restoration) findHolders(ctx context.Context) {
	out := capture{limit: 64 << 20}
	err := r.remote.Run(ctx, Command{Script: holdersScript, Stdout: &out})
	if err == nil {
		held := parseHeld(out.String())
		if err = r.keepRestored(ctx, held); err == nil && len(held) > 0 {
			err = r.nameHolders(ctx, held)
		}
	}
	if err != nil {
		r.note("what has to be restarted was not found out: %v", err)
	}
}

// parseHeld reads what holders.sh wrote: for each name without its " (deleted)",
// the processes.
func parseHeld(text string) map[string][]int {
	held := make(map[string][]int)
	add := func(link, name string) {
		name, ok := strings.CutSuffix(name, " (deleted)")
		rest, isProc := strings.CutPrefix(link, "/proc/")
		number, _, _ := strings.Cut(rest, "/")
		pid, err := strconv.Atoi(number)
		if ok && isProc && err == nil && strings.HasPrefix(name, "/") && !slices.Contains(held[name], pid) {
			held[name] = append(held[name], pid)
		}
	}
	links, mapped, found := strings.Cut(text, "\x00\x00")
	if !found {
		mapped, _ = strings.CutPrefix(text, "\x00")
		links = ""
	}
	for record := range strings.SplitSeq(links, "\x00") {
		link, name, _ := strings.Cut(record, " ")
		add(link, name)
	}
	for line := range strings.Lines(mapped) {
		link, rest, _ := strings.Cut(strings.TrimSuffix(line, "\n"), ":")
		if i := strings.IndexByte(rest, '/'); i >= 0 { // the addresses before have none
			add(link, unescape(rest[i:]))
		}
	}
	return held
}

// keepRestored drops the names that the restore has nothing to do with: those of
// temporary files, and of other file systems.
func (r *restoration) keepRestored(ctx context.Context, held map[string][]int) error {
	if len(held) == 0 {
		return nil
	}
	above := make(map[string]bool) // true: it was removed, with all that was in it
	for name := range held {
		for dir := parentOf("." + name); dir != "."; dir = parentOf(dir) {
			above[dir] = false
		}
	}
	touched := make(map[string]bool)
	err := r.pass(ctx, func(_ *archive, m member) error {
		if _, ok := held[strings.TrimPrefix(m.name, ".")]; ok {
			touched[m.name] = true
		}
		if _, ok := above[m.name]; ok && (m.whiteout || m.xattrs.opaque || m.kind != typeDir) {
			above[m.name] = true
		}
		return nil
	})
	for name := range held {
		keep := touched["."+name]
		for dir := parentOf("." + name); dir != "." && !keep; dir = parentOf(dir) {
			keep = above[dir]
		}
		if !keep {
			delete(held, name)
		}
	}
	return err
}

// nameHolders finds out which units and commands the processes are.
func (r *restoration) nameHolders(ctx context.Context, held map[string][]int) error {
	names := make(map[int][]string) // that each process holds
	for _, name := range slices.Sorted(maps.Keys(held)) {
		for _, pid := range held[name] {
			names[pid] = append(names[pid], name)
		}
	}
	pids := slices.Sorted(maps.Keys(names))
	var args []string
	for _, pid := range pids[:min(len(pids), 5000)] {
		args = append(args, strconv.Itoa(pid))
	}
	out := capture{limit: 16 << 20}
	if err := r.remote.Run(ctx, Command{Script: processesScript, Args: args, Stdout: &out}); err != nil {
		return err
	}
	holders := groupHolders(parseProcesses(out.String()), names)
	r.report.Restart = sortHolders(holders)
	if more := len(holders) - len(r.report.Restart); more > 0 {
		r.note("%d more services and commands have to be restarted", more)
	}
	return nil
}

// groupHolders puts the processes of a unit together, and those of a command that
// is in none.
func groupHolders(processes []process, names map[int][]string) map[string]*Holder {
	holders := make(map[string]*Holder)
	device := ""
	for _, p := range processes {
		if p.pid == 0 { // the session itself: its root is the node's
			device = p.device
			continue
		}
		if p.device != device { // a container's, with files of the same names
			continue
		}
		key := cmp.Or(p.unit, "\x00"+p.command)
		if holders[key] == nil {
			holders[key] = &Holder{Unit: p.unit, Command: Printable(p.command)}
		}
		holders[key].PIDs = append(holders[key].PIDs, p.pid)
		for _, name := range names[p.pid] {
			holders[key].Files = append(holders[key].Files, Printable(name))
		}
	}
	return holders
}

// sortHolders sorts the holders, units first, and cuts what is too long.
func sortHolders(holders map[string]*Holder) []Holder {
	var list []Holder
	for _, h := range holders {
		slices.Sort(h.Files)
		h.Files = slices.Compact(h.Files)
		h.More = max(0, len(h.Files)-MaxHeld)
		h.Files = h.Files[:len(h.Files)-h.More]
		list = append(list, *h)
	}
	slices.SortFunc(list, func(a, b Holder) int {
		if (a.Unit == "") != (b.Unit == "") {
			return cmp.Compare(len(b.Unit), len(a.Unit))
		}
		return cmp.Or(cmp.Compare(a.Unit, b.Unit), cmp.Compare(a.Command, b.Command))
	})
	return list[:min(len(list), MaxHolders)]
}

// process is what processes.sh wrote of one.
type process struct {
	pid                   int // 0: the session itself
	command, device, unit string
}

func parseProcesses(text string) []process {
	var list []process
	for block := range strings.SplitSeq(text, "\n\n") {
		lines := strings.Split(block, "\n")
		if len(lines) < 3 {
			continue
		}
		pid, err := strconv.Atoi(lines[0])
		if err != nil && lines[0] != "self" {
			continue
		}
		list = append(list, process{pid, lines[1], lines[2], unitOf(lines[3:])})
	}
	return list
}

// unitOf returns the innermost service of the control groups in which systemd
// keeps a process: those of the second version, or the first's by systemd's name.
func unitOf(groups []string) string {
	unit := ""
	for _, line := range groups {
		fields := strings.SplitN(line, ":", 3)
		if len(fields) != 3 || (fields[0] != "0" && fields[1] != "name=systemd") {
			continue
		}
		for part := range strings.SplitSeq(fields[2], "/") {
			if strings.HasSuffix(part, ".service") {
				unit = Printable(part)
			}
		}
	}
	return unit
}

// String tells a holder in one line.
func (h Holder) String() string {
	s := h.Command
	if h.Unit != "" {
		s = h.Unit
	}
	if n := len(h.PIDs); n == 1 {
		s += fmt.Sprintf(" (process %d)", h.PIDs[0])
	} else {
		s += fmt.Sprintf(" (%d processes)", n)
	}
	s += ": " + strings.Join(h.Files, ", ")
	if h.More > 0 {
		s += fmt.Sprintf(" and %d more", h.More)
	}
	if h.Restarted {
		s += ": restarted"
	}
	return s
}
