package report

import (
	"fmt"
	"io"
	"slices"
	"strings"

	"github.com/livecd-sync/livecd-sync/internal/bmc"
	"github.com/livecd-sync/livecd-sync/internal/plan"
)

// PlanText writes a plan for people: what it destroys, then the nodes that
// change, those whose running system ends first, then those that are blocked or
// failed, then those in sync.
func PlanText(w io.Writer, p plan.Plan, o Options) error {
	pg := &page{Options: o}
	pg.line(4, o.paint(bold, clean(p.Site))+": "+planCounts(p.Summary()))
	pg.destruction(p.Nodes)
	bs := blocks(p.Nodes, planKey(o))
	slices.SortStableFunc(bs, func(a, b block) int { return urgency(a.nodes[0]) - urgency(b.nodes[0]) })
	for _, b := range bs {
		pg.planBlock(b)
	}
	_, err := io.WriteString(w, pg.b.String())
	return err
}

// urgency orders blocks: lower comes first.
func urgency(n plan.NodePlan) int {
	switch n.State {
	case plan.Change:
		return 4 - severity(n)
	case plan.Blocked:
		return 5
	case plan.Failed:
		return 6
	case plan.InSync:
	}
	return 7
}

// severity tells how bad a plan's worst step is: 4 ends what runs.
func severity(n plan.NodePlan) int {
	if n.EndsRunning() {
		return 4
	}
	worst := 0
	for _, s := range n.Steps {
		switch s.Action.Effect() {
		case plan.Safe:
			worst = max(worst, 1)
		case plan.Disrupts:
			worst = max(worst, 2)
		case plan.Destroys:
			worst = max(worst, 3)
		}
	}
	return worst
}

func planCounts(s plan.Summary) string {
	switch s.Nodes {
	case 0:
		return "no nodes"
	case s.InSync:
		return count(s.Nodes) + ", all in sync"
	}
	return count(s.Nodes) + ": " + counts(
		number{s.InSync, "in sync"}, number{s.Change, "to change"}, number{s.Blocked, "blocked"}, number{s.Failed, "failed"})
}

// A number is how many of something there are.
type number struct {
	n    int
	what string
}

// counts lists the numbers that are not zero.
func counts(ns ...number) string {
	var parts []string
	for _, n := range ns {
		if n.n > 0 {
			parts = append(parts, fmt.Sprintf("%d %s", n.n, n.what))
		}
	}
	return strings.Join(parts, ", ")
}

// count gives a number of nodes in words.
func count(n int) string {
	if n == 1 {
		return "1 node"
	}
	return fmt.Sprintf("%d nodes", n)
}

// destruction says on how many nodes what runs is ended, and what becomes of
// their overlays.
func (p *page) destruction(nodes []plan.NodePlan) {
	var ended, saved, perhaps, lost, unseen []plan.NodePlan
	for _, n := range nodes {
		if n.State != plan.Change || !n.EndsRunning() {
			continue
		}
		ended = append(ended, n)
		switch fateOf(n) {
		case overlaySaved:
			saved = append(saved, n)
		case overlaySavedPerhaps:
			perhaps = append(perhaps, n)
		case overlayLost:
			lost = append(lost, n)
		case overlayUnseen:
			unseen = append(unseen, n)
		case noOverlay:
		}
	}
	if len(ended) == 0 {
		return
	}
	text := p.paint(alarm, "DESTROYS what runs on "+count(len(ended)))
	if len(saved) == len(ended) {
		p.line(4, text+"; every overlay is backed up first")
		return
	}
	p.line(4, text+": "+p.fold(namesOf(ended)))
	p.fate("overlay backed up first", saved)
	p.fate(p.paint(alarm, "overlay LOST if it cannot be backed up"), perhaps)
	p.fate(p.paint(alarm, "overlay LOST"), lost)
	p.fate("not known what runs there", unseen)
}

func (p *page) fate(what string, nodes []plan.NodePlan) {
	if len(nodes) > 0 {
		p.line(8, fmt.Sprintf("    %s on %s: %s", what, count(len(nodes)), p.fold(namesOf(nodes))))
	}
}

// A fate is what becomes of the overlay of a node whose running system ends.
type fate int

const (
	overlaySaved fate = iota
	overlaySavedPerhaps
	overlayLost
	overlayUnseen // what runs there is not known
	noOverlay     // a disk keeps what it holds
)

func fateOf(n plan.NodePlan) fate {
	for _, s := range n.Steps {
		if b, ok := s.Action.(plan.BackupOverlay); ok && b.MayFail {
			return overlaySavedPerhaps
		} else if ok {
			return overlaySaved
		}
	}
	switch n.Facts.Host.(type) {
	case plan.HostDisk:
		return noOverlay
	case plan.HostLive:
		return overlayLost
	case plan.HostSilent, plan.HostLocked, plan.HostUnknown:
	}
	return overlayUnseen
}

func (p *page) planBlock(b block) {
	p.blank()
	switch b.nodes[0].State {
	case plan.Change:
		p.head(p.paint(yellow, "~"), b, "")
		p.drifts(b)
		p.steps(b)
	case plan.Blocked:
		p.head(p.paint(yellow, "!"), b, p.paint(yellow, "blocked")+kindOf(b.nodes[0].Err))
		p.trouble(b)
	case plan.Failed:
		p.head(p.paint(red, "✗"), b, p.paint(red, "failed")+kindOf(b.nodes[0].Err))
		p.drifts(b)
		p.trouble(b)
	case plan.InSync:
		p.inSync("in sync", b)
	}
	p.unsaved(b.nodes)
	p.notes(b.nodes)
	if p.Verbose {
		p.line(9, "    now: "+now(b.nodes[0]))
	}
}

// unsaved tells how much of what the nodes hold is in no backup.
func (p *page) unsaved(nodes []plan.NodePlan) {
	var files, bytes, on int64
	since := ""
	for _, n := range nodes {
		h, live := n.Facts.Host.(plan.HostLive)
		if !live || h.Unsaved == nil || h.Unsaved.Files == 0 {
			continue
		}
		files, bytes, on = files+h.Unsaved.Files, bytes+h.Unsaved.Bytes, on+1
		since = h.Unsaved.Since
	}
	switch {
	case on == 0:
		return
	case on == 1 && since != "":
		since = " since backup " + clean(since)
	case on == 1:
		since = ", and there is no backup of this boot"
	default:
		since = fmt.Sprintf(" on %d nodes", on)
	}
	p.line(6, fmt.Sprintf("    not in a backup: %s in %d files%s", Size(bytes), files, since))
}

// Size writes a number of bytes for people.
func Size(n int64) string {
	const step = 1024
	if n < step {
		return fmt.Sprintf("%d B", n)
	}
	v, unit := float64(n), 0
	for units := "KMGTP"; v >= step && unit < len(units); unit++ {
		v /= step
	}
	return fmt.Sprintf("%.1f %ciB", v, "KMGTP"[unit-1])
}

// head is the line that a block begins with.
func (p *page) head(mark string, b block, what string) {
	text := mark + " " + p.paint(bold, p.fold(b.names()))
	if what != "" {
		text += "  " + what
	}
	if len(b.nodes) > 1 {
		text += p.paint(dim, "  ("+count(len(b.nodes))+")")
	}
	p.line(2, text)
}

func kindOf(err *bmc.Error) string {
	if err == nil {
		return ""
	}
	return " (" + clean(string(err.Kind)) + ")"
}

// trouble tells the error that the block's nodes have in common, and what to do
// next on a line of its own.
func (p *page) trouble(b block) {
	err := func(n plan.NodePlan) error {
		if n.Err == nil {
			return errUntold
		}
		return n.Err
	}
	p.errorLines(b, err)
}

func (p *page) errorLines(b block, err func(plan.NodePlan) error) {
	p.line(4, "    "+together(b.nodes, "", func(n plan.NodePlan) string { return err(n).Error() }))
	hint := together(b.nodes, p.fold(b.names()), func(n plan.NodePlan) string { return bmc.HintOf(err(n)) })
	if hint != "" {
		p.line(6, "    → "+hint)
	}
}

func (p *page) drifts(b block) {
	first := b.nodes[0].Drift
	fields, texts := make([]string, len(first)), make([]string, len(first))
	fieldWidth, textWidth := 0, 0
	for i, d := range first {
		fields[i] = clean(d.Field)
		texts[i] = together(b.nodes, "", func(n plan.NodePlan) string {
			return orNothing(clean(n.Drift[i].Want)) + " ← " + orNothing(clean(n.Drift[i].Got))
		})
		fieldWidth = max(fieldWidth, visible(fields[i]))
		textWidth = max(textWidth, visible(texts[i]))
	}
	for i := range first {
		at := func(n plan.NodePlan) string { return string(n.Drift[i].At) }
		p.line(8, "    "+pad(fields[i], fieldWidth)+"  "+pad(texts[i], textWidth)+"  "+p.paint(dim, places(b.nodes, at)))
	}
}

func orNothing(s string) string {
	if s == "" {
		return "nothing"
	}
	return s
}

// places names the first place, and whether there are others.
func places(nodes []plan.NodePlan, at func(plan.NodePlan) string) string {
	first := at(nodes[0])
	for _, n := range nodes[1:] {
		if at(n) != first {
			return clean(first) + " and others"
		}
	}
	return clean(first)
}

func (p *page) steps(b block) {
	first := b.nodes[0].Steps
	nameWidth := 0
	for _, s := range first {
		nameWidth = max(nameWidth, len(s.Action.Name()))
	}
	for i, s := range first {
		head := fmt.Sprintf("    %*d. %s  %s  ", len(fmt.Sprint(len(first))), i+1,
			pad(s.Action.Name(), nameWidth), p.effect(s.Action.Effect(), len("disrupts")))
		action := together(b.nodes, "", func(n plan.NodePlan) string { return n.Steps[i].Action.String() })
		why := together(b.nodes, "", func(n plan.NodePlan) string { return n.Steps[i].Because })
		switch {
		case why == "":
			why = action
		case p.Verbose:
			why += p.paint(dim, " · "+action)
		}
		p.line(visible(head), head+why)
	}
}

func (p *page) inSync(what string, b block) {
	text := p.paint(green, "=") + " "
	if len(b.nodes) == 1 {
		text += p.paint(bold, p.fold(b.names())) + "  " + what
	} else {
		text += fmt.Sprintf("%s %s: %s", count(len(b.nodes)), what, p.fold(b.names()))
	}
	p.line(4, text)
	p.byWord(b.nodes)
}

// byWord names those nodes that were not themselves asked what they run.
func (p *page) byWord(nodes []plan.NodePlan) {
	var weak []plan.NodePlan
	for _, n := range nodes {
		if n.Proof == plan.ProofBMC {
			weak = append(weak, n)
		}
	}
	switch {
	case len(weak) == 0:
	case len(weak) == len(nodes):
		p.line(6, "    by the BMC's word only; not seen on the node")
	default:
		p.line(6, fmt.Sprintf("    %d by the BMC's word only, not seen on the node: %s", len(weak), p.fold(namesOf(weak))))
	}
}

func (p *page) notes(nodes []plan.NodePlan) {
	for _, t := range tellings(nodes, func(n plan.NodePlan) []string { return n.Notes }) {
		text := "    note: " + t.text
		if len(t.nodes) < len(nodes) {
			text += p.paint(dim, "  ("+p.fold(namesOf(t.nodes))+")")
		}
		p.line(10, text)
	}
}
