package report

import (
	"io"
	"path"
	"strings"
	"time"

	"github.com/livecd-sync/livecd-sync/internal/bmc"
	"github.com/livecd-sync/livecd-sync/internal/plan"
)

// A StatusDocument is what `status -o json` prints: a Document without what is
// to be done.
type StatusDocument struct {
	Version    int          `json:"version"`
	Site       string       `json:"site"`
	SiteDigest string       `json:"siteDigest"`
	ObservedAt time.Time    `json:"observedAt"`
	Summary    Summary      `json:"summary"`
	Nodes      []NodeStatus `json:"nodes"`
}

// A NodeStatus is how one node stands; its fields are those of Node.
type NodeStatus struct {
	Name     string     `json:"name"`
	State    plan.State `json:"state"`
	Observed *Observed  `json:"observed,omitempty"`
	Error    *Error     `json:"error,omitempty"`
	Notes    []string   `json:"notes"`
	Proof    plan.Proof `json:"proof"`
}

// StatusJSON writes how the nodes of a plan stand as a StatusDocument.
func StatusJSON(w io.Writer, p plan.Plan) error {
	d := FromPlan(p)
	s := StatusDocument{
		Version:    d.Version,
		Site:       d.Site,
		SiteDigest: d.SiteDigest,
		ObservedAt: d.ObservedAt,
		Summary:    d.Summary,
		Nodes:      make([]NodeStatus, 0, len(d.Nodes)),
	}
	for _, n := range d.Nodes {
		s.Nodes = append(s.Nodes, NodeStatus{
			Name: n.Name, State: n.State, Observed: n.Observed, Error: n.Error, Notes: n.Notes, Proof: n.Proof,
		})
	}
	return writeJSON(w, s)
}

// StatusText writes one line a node: its state, power, the image mounted, what
// runs, and by what that is known. Lines are not broken: they are for grep.
func StatusText(w io.Writer, p plan.Plan, o Options) error {
	rows := [][]string{{"NODE", "STATE", "POWER", "MOUNTED", "RUNNING", "KNOWN BY"}}
	for _, n := range p.Nodes {
		rows = append(rows, statusRow(n))
	}
	widths := columns(rows)
	var b strings.Builder
	for i, row := range rows {
		b.WriteString(strings.TrimRight(o.statusLine(row, widths, i == 0), " "))
		b.WriteByte('\n')
	}
	_, err := io.WriteString(w, b.String())
	return err
}

func statusRow(n plan.NodePlan) []string {
	row := []string{clean(n.Node), clean(string(n.State)), "-", "-", "-", "-"}
	if n.Facts.Err == nil || n.Facts.BMC.ID != (bmc.Identity{}) {
		row[2] = power(n.Facts.BMC.Power)
		row[3] = inDrive(n.Facts.BMC.Media)
	}
	row[4] = inShort(n.Facts.Host)
	switch {
	case n.Err != nil:
		row[5] = clean(string(n.Err.Kind)) + ": " + clean(n.Err.Error())
	case n.Proof == plan.ProofNode:
		row[5] = "the node"
	case n.Proof == plan.ProofBMC:
		row[5] = "its BMC only"
	}
	return row
}

// inDrive names what is in the drive in one word.
func inDrive(m bmc.Media) string {
	image := clean(mountedImage(m))
	switch {
	case m.Access == bmc.AccessDisabled:
		return "(disabled)"
	case m.Access == bmc.AccessNone:
		return "(none)"
	case bmc.EmptyName(image) && m.Inserted:
		return "(unnamed)"
	case bmc.EmptyName(image):
		return "-"
	case !m.Inserted:
		return "(" + path.Base(image) + ")"
	}
	return path.Base(image)
}

// inShort says what runs in one word.
func inShort(h plan.Host) string {
	switch h := h.(type) {
	case plan.HostSilent:
		return "(no answer)"
	case plan.HostLocked:
		return "(no login)"
	case plan.HostDisk:
		return "(disk)"
	case plan.HostLive:
		if h.Volume.ID == "" {
			return "(unnamed)"
		}
		return clean(h.Volume.ID)
	case plan.HostUnknown:
	}
	return "-"
}

func columns(rows [][]string) []int {
	widths := make([]int, len(rows[0]))
	for _, row := range rows {
		for i, cell := range row {
			widths[i] = max(widths[i], visible(cell))
		}
	}
	return widths
}

func (o Options) statusLine(row []string, widths []int, head bool) string {
	cells := make([]string, len(row))
	for i, cell := range row {
		text := pad(cell, widths[i])
		switch {
		case i == len(row)-1:
			text = cell
		case head || i != 1:
		default:
			text = o.paint(stateColor(plan.State(cell)), text)
		}
		if head {
			text = o.paint(dim, text)
		}
		cells[i] = text
	}
	return strings.Join(cells, "  ")
}

func stateColor(s plan.State) color {
	switch s {
	case plan.InSync:
		return green
	case plan.Failed:
		return red
	case plan.Change, plan.Blocked:
	}
	return yellow
}
