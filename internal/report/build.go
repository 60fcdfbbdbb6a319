package report

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"math"
	"reflect"
	"time"

	"github.com/livecd-sync/livecd-sync/internal/apply"
	"github.com/livecd-sync/livecd-sync/internal/bmc"
	"github.com/livecd-sync/livecd-sync/internal/plan"
)

// PlanJSON writes the plan as a Document.
func PlanJSON(w io.Writer, p plan.Plan) error {
	return writeJSON(w, FromPlan(p))
}

// ResultJSON writes what became of a plan as a Document: observed, drift and
// state are as at the end of the run, steps are those of the plan, each with
// its outcome.
func ResultJSON(w io.Writer, r apply.Result) error {
	return writeJSON(w, FromResult(r))
}

// FromPlan makes the Document of a plan.
func FromPlan(p plan.Plan) Document {
	d := Document{
		Version:    Version,
		Site:       p.Site,
		SiteDigest: p.Digest,
		ObservedAt: p.At.UTC().Truncate(time.Second),
		Nodes:      make([]Node, 0, len(p.Nodes)),
	}
	for _, n := range p.Nodes {
		d.Nodes = append(d.Nodes, fromNodePlan(n))
	}
	d.Summary = summarize(d.Nodes)
	scrub(reflect.ValueOf(&d).Elem())
	return d
}

// FromResult makes the Document of a run.
func FromResult(r apply.Result) Document {
	d := FromPlan(r.Plan)
	results := make(map[string]apply.NodeResult, len(r.Nodes))
	for _, n := range r.Nodes {
		results[n.Node] = n
	}
	for i, n := range d.Nodes {
		d.Nodes[i] = withResult(n, results[n.Name])
	}
	d.Summary = summarize(d.Nodes)
	scrub(reflect.ValueOf(&d).Elem())
	return d
}

// scrub hides what looks like a credential in every string of a document, so
// that no field can be forgotten.
func scrub(v reflect.Value) {
	switch v.Kind() {
	case reflect.String:
		v.SetString(hideSecrets(v.String()))
	case reflect.Pointer:
		if !v.IsNil() {
			scrub(v.Elem())
		}
	case reflect.Slice:
		for i := range v.Len() {
			scrub(v.Index(i))
		}
	case reflect.Struct:
		for i := range v.NumField() {
			if v.Field(i).CanSet() { // not those of a time
				scrub(v.Field(i))
			}
		}
	default: // numbers and booleans
	}
}

func summarize(nodes []Node) Summary {
	s := Summary{Nodes: len(nodes)}
	for _, n := range nodes {
		switch n.State {
		case plan.InSync:
			s.InSync++
		case plan.Change:
			s.Change++
		case plan.Blocked:
			s.Blocked++
		case plan.Failed:
			s.Failed++
		}
	}
	return s
}

func fromNodePlan(n plan.NodePlan) Node {
	out := Node{
		Name:     n.Node,
		State:    n.State,
		Observed: observed(n.Facts),
		Drift:    drift(n.Drift),
		Steps:    make([]Step, 0, len(n.Steps)),
		Notes:    make([]string, 0, len(n.Notes)),
		Proof:    n.Proof,
	}
	for _, s := range n.Steps {
		out.Steps = append(out.Steps, step(s))
	}
	out.Notes = append(out.Notes, n.Notes...)
	if n.Err != nil {
		out.Error = newError(n.Err)
	}
	return out
}

// withResult tells of a node, as planned, what became of it. A node that the
// run says nothing about was not touched: its steps are skipped. One that was
// left alone because the run ended early has not failed; it is as it was.
func withResult(n Node, r apply.NodeResult) Node {
	if r.After.Node != "" {
		after := fromNodePlan(r.After)
		after.Steps = n.Steps
		n = after
	}
	for i := range n.Steps {
		res := apply.StepResult{Outcome: apply.OutcomeSkipped}
		if i < len(r.Steps) {
			res = r.Steps[i]
		}
		n.Steps[i] = withOutcome(n.Steps[i], res)
	}
	if r.Err != nil {
		n.Error = newError(r.Err)
		if n.State != plan.Blocked && bmc.KindOf(r.Err) != bmc.KindCancelled {
			n.State = plan.Failed
		}
	}
	n.Converged = new(r.Converged)
	return n
}

func withOutcome(s Step, r apply.StepResult) Step {
	s.Outcome = r.Outcome
	s.Seconds = new(math.Round(r.Took.Seconds()*1000) / 1000)
	if r.Err != nil {
		s.Error = newError(r.Err)
	}
	return s
}

// observed is nil for a node whose BMC gave no answer at all.
func observed(f plan.Facts) *Observed {
	b := f.BMC
	if f.Err != nil && b.ID == (bmc.Identity{}) {
		return nil
	}
	return &Observed{
		Vendor:   b.ID.Vendor,
		Product:  b.ID.Product,
		Model:    b.ID.Model,
		Firmware: b.ID.Firmware,
		Power:    b.Power,
		Media:    Media{Slot: b.Media.Slot, Image: mountedImage(b.Media), Inserted: b.Media.Inserted},
		Boot:     Boot{Target: b.Boot.Target, Enabled: b.Boot.Enabled},
		Running:  running(f.Host),
	}
}

// mountedImage is what a BMC calls the image in its slot; some give a name only.
func mountedImage(m bmc.Media) string {
	if bmc.EmptyName(m.Image) && !bmc.EmptyName(m.ImageName) {
		return m.ImageName
	}
	return m.Image
}

func running(h plan.Host) Running {
	switch h := h.(type) {
	case plan.HostSilent:
		r := Running{Host: HostSilent}
		if h.Err != nil {
			r.Error = h.Err.Error()
		}
		return r
	case plan.HostLocked:
		r := Running{Host: HostLocked}
		if h.Err != nil {
			r.Error = h.Err.Error()
		}
		return r
	case plan.HostDisk:
		return Running{Host: HostDisk, BootID: h.BootID}
	case plan.HostLive:
		return Running{
			Host:      HostLive,
			Volume:    h.Volume.ID,
			Created:   h.Volume.Created,
			BootID:    h.BootID,
			Upper:     h.Upper,
			Restored:  h.Restored,
			Restoring: h.Restoring,
			Unsaved:   unsaved(h.Unsaved),
		}
	case plan.HostUnknown:
	}
	return Running{Host: HostUnknown}
}

func unsaved(u *plan.Unsaved) *Unsaved {
	if u == nil {
		return nil
	}
	return &Unsaved{Files: u.Files, Bytes: u.Bytes, Since: u.Since}
}

func drift(ds []plan.Drift) []Drift {
	out := make([]Drift, 0, len(ds))
	for _, d := range ds {
		out = append(out, Drift{Field: d.Field, Want: d.Want, Got: d.Got, At: string(d.At)})
	}
	return out
}

func step(s plan.Step) Step {
	return Step{
		Action:    s.Action.Name(),
		Effect:    s.Action.Effect(),
		Because:   s.Because,
		Arguments: arguments(s.Action),
	}
}

// arguments has a case for every action that has any; a test walks the set.
func arguments(a plan.Action) Arguments {
	switch a := a.(type) {
	case plan.BackupOverlay:
		return Arguments{Purpose: a.Purpose, Store: a.Store, MayFail: a.MayFail}
	case plan.EjectMedia:
		return Arguments{Slot: a.Slot, Image: a.Image, PoweredOn: a.PoweredOn}
	case plan.InsertMedia:
		return Arguments{Image: a.Image, URL: a.URL}
	case plan.AwaitBoot:
		return Arguments{Image: a.Image, WithinSeconds: a.Within.Seconds()}
	case plan.Login:
		return Arguments{Image: a.Image, WithinSeconds: a.Within.Seconds()}
	case plan.RestoreOverlay:
		return Arguments{From: a.From}
	case plan.Repopulate:
		return Arguments{From: a.From}
	default:
		return Arguments{}
	}
}

func newError(err error) *Error {
	return &Error{Kind: bmc.KindOf(err), Message: err.Error(), Hint: bmc.HintOf(err)}
}

func writeJSON(w io.Writer, doc any) error {
	var b bytes.Buffer
	enc := json.NewEncoder(&b)
	enc.SetEscapeHTML(false)
	enc.SetIndent("", "  ")
	if err := enc.Encode(doc); err != nil {
		return fmt.Errorf("encode the document: %w", err)
	}
	_, err := w.Write(safeJSON(b.Bytes()))
	return err
}
