package report

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"

	"github.com/livecd-sync/livecd-sync/internal/bmc"
	"github.com/livecd-sync/livecd-sync/internal/plan"
)

// largestPlan bounds what ReadPlan takes in: ten thousand nodes with long
// errors need a tenth of it.
const largestPlan = 256 << 20

// ReadPlan reads a plan that PlanJSON wrote. It is strict, since what it returns
// is going to be carried out: another version, an unknown name or value, a
// summary that does not add up, or the document of an apply is an error with a
// hint.
func ReadPlan(r io.Reader) (Document, error) {
	data, err := io.ReadAll(io.LimitReader(r, largestPlan+1))
	if err != nil {
		return Document{}, planError(err)
	}
	if len(data) > largestPlan {
		return Document{}, planError(fmt.Errorf("it is larger than %d MiB", largestPlan>>20))
	}
	if err := checkVersion(data); err != nil {
		return Document{}, planError(err)
	}
	d, err := decodePlan(data)
	if err != nil {
		return Document{}, planError(err)
	}
	if err := d.check(); err != nil {
		return Document{}, planError(err)
	}
	return d, nil
}

func planError(err error) error {
	return &bmc.Error{
		Op:   "read the plan file",
		Kind: bmc.KindProtocol,
		Hint: "write it anew with: livecd-sync plan -o json > PLANFILE",
		Err:  err,
	}
}

// checkVersion looks at nothing but the version, so that a document of another
// version is called that and not a heap of unknown names.
func checkVersion(data []byte) error {
	var head struct {
		Version *json.Number `json:"version"`
	}
	dec := json.NewDecoder(bytes.NewReader(data))
	if err := dec.Decode(&head); err != nil {
		return fmt.Errorf("it is not a JSON document: %w", describe(data, err))
	}
	switch {
	case head.Version == nil:
		return errors.New(`it has no "version", so it is not a plan`)
	case head.Version.String() != fmt.Sprint(Version):
		return fmt.Errorf("it is of version %s, and this livecd-sync reads version %d", head.Version, Version)
	}
	return nil
}

func decodePlan(data []byte) (Document, error) {
	var d Document
	dec := json.NewDecoder(bytes.NewReader(data))
	dec.DisallowUnknownFields()
	if err := dec.Decode(&d); err != nil {
		return Document{}, describe(data, err)
	}
	if _, err := dec.Token(); !errors.Is(err, io.EOF) {
		return Document{}, errors.New("something follows the document")
	}
	return d, nil
}

// describe adds the line to an error of encoding/json that has an offset.
func describe(data []byte, err error) error {
	offset := int64(-1)
	if e, ok := errors.AsType[*json.SyntaxError](err); ok {
		offset = e.Offset
	}
	if e, ok := errors.AsType[*json.UnmarshalTypeError](err); ok {
		offset = e.Offset
	}
	switch {
	case errors.Is(err, io.EOF):
		return errors.New("it is empty")
	case errors.Is(err, io.ErrUnexpectedEOF):
		return errors.New("it ends too early")
	case offset < 0 || offset > int64(len(data)):
		return err
	}
	return fmt.Errorf("line %d: %w", 1+bytes.Count(data[:offset], []byte("\n")), err)
}

// check tells whether the document is one that PlanJSON could have written.
func (d Document) check() error {
	seen := make(map[string]bool, len(d.Nodes))
	for i, n := range d.Nodes {
		switch {
		case n.Name == "":
			return fmt.Errorf("node %d has no name", i+1)
		case seen[n.Name]:
			return fmt.Errorf("node %s is there twice", n.Name)
		}
		seen[n.Name] = true
		if err := n.check(); err != nil {
			return fmt.Errorf("node %s: %w", n.Name, err)
		}
	}
	switch {
	case d.Site == "" || d.SiteDigest == "":
		return errors.New("it does not say of which site file it is")
	case d.Summary != summarize(d.Nodes):
		return errors.New("its summary does not add up; it has been changed by hand")
	}
	return nil
}

func (n Node) check() error {
	if n.Converged != nil {
		return errors.New("it tells how an apply ended; it is no plan")
	}
	switch n.State {
	case plan.InSync, plan.Change:
	case plan.Blocked, plan.Failed:
		if n.Error == nil {
			return fmt.Errorf("it is %s and has no error", n.State)
		}
	default:
		return fmt.Errorf("state %q is unknown", n.State)
	}
	for i, s := range n.Steps {
		if err := s.check(); err != nil {
			return fmt.Errorf("step %d: %w", i+1, err)
		}
	}
	return nil
}

// knownActions is the closed set of actions; a test compares it with package
// plan's source.
var knownActions = []plan.Action{
	plan.BackupOverlay{},
	plan.PowerOff{},
	plan.EnableMedia{},
	plan.EjectMedia{},
	plan.InsertMedia{},
	plan.SetBootOnce{},
	plan.ClearBoot{},
	plan.PowerOn{},
	plan.Reset{},
	plan.AwaitBoot{},
	plan.Login{},
	plan.RestoreOverlay{},
	plan.Repopulate{},
}

// effectOf returns the effect of the action of that name.
func effectOf(name string) (plan.Effect, bool) {
	for _, a := range knownActions {
		if a.Name() == name {
			return a.Effect(), true
		}
	}
	return "", false
}

func (s Step) check() error {
	effect, known := effectOf(s.Action)
	switch {
	case !known:
		return fmt.Errorf("action %q is unknown", s.Action)
	case s.Effect != effect:
		return fmt.Errorf("%s has the effect %q, not %q", s.Action, effect, s.Effect)
	case s.Outcome != "":
		return fmt.Errorf("%s has an outcome; this is no plan", s.Action)
	}
	return nil
}

// Stale says, a sentence each, why the document of a plan can no longer be
// carried out, given the plan of the same nodes as computed now; nothing if it
// still holds. What is carried out then is that plan: a document holds no
// secrets, and so cannot be run by itself.
func (d Document) Stale(now plan.Plan) []string {
	fresh := FromPlan(now)
	switch {
	case d.Site != fresh.Site:
		return []string{fmt.Sprintf("it is a plan for the site %s, and the site file is that of %s", d.Site, fresh.Site)}
	case d.SiteDigest != fresh.SiteDigest:
		return []string{"the site file has changed since the plan was made"}
	}
	byName := make(map[string]Node, len(fresh.Nodes))
	for _, n := range fresh.Nodes {
		byName[n.Name] = n
	}
	var why []string
	planned := make(map[string]bool, len(d.Nodes))
	for _, n := range d.Nodes {
		planned[n.Name] = true
	}
	for _, n := range fresh.Nodes {
		if !planned[n.Name] {
			why = append(why, n.Name+": the plan does not speak of it")
		}
	}
	for _, n := range d.Nodes {
		f, ok := byName[n.Name]
		switch {
		case !ok:
			why = append(why, n.Name+": it is no longer among the nodes")
		case !sameActions(n.Steps, f.Steps):
			why = append(why, fmt.Sprintf("%s: it now needs %s, and the plan says %s", n.Name, words(f), words(n)))
		}
	}
	return why
}

func sameActions(a, b []Step) bool {
	return slices.EqualFunc(a, b, func(x, y Step) bool {
		return x.Action == y.Action && x.Arguments == y.Arguments
	})
}

func words(n Node) string {
	if len(n.Steps) == 0 {
		return "nothing (" + string(n.State) + ")"
	}
	names := make([]string, len(n.Steps))
	for i, s := range n.Steps {
		names[i] = s.Action
	}
	return strings.Join(names, ", ")
}
