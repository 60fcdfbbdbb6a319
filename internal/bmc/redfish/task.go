package redfish

import (
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"strings"
	"time"

	"github.com/stmcginnis/gofish/schemas"

	"github.com/livecd-sync/livecd-sync/internal/bmc"
)

const (
	firstPoll = 100 * time.Millisecond
	lastPoll  = 5 * time.Second
)

// outcome is how a task stands.
type outcome int

const (
	inFlight outcome = iota
	succeeded
	failed
)

// judge reads a TaskState. States that are not known are in flight, such as
// H3C's Mounting; its Mounted and Failed are ends (vendors.md 7.4 point 6).
func judge(t taskDoc) outcome {
	switch schemas.TaskState(t.State.v) {
	case schemas.CompletedTaskState, "Mounted":
		if t.Status.v == string(schemas.CriticalHealth) {
			return failed
		}
		return succeeded
	case schemas.ExceptionTaskState, schemas.KilledTaskState, schemas.CancelledTaskState, "Failed":
		return failed
	default:
		return inFlight
	}
}

// finish waits for the task that a 202 started. An answer of another kind, and
// a task that cannot be named or read, is the end of it: what became of the
// request is for the next Observe to tell.
func (c *Client) finish(ctx context.Context, op string, a answer) error {
	if a.status != http.StatusAccepted {
		return nil
	}
	var t taskDoc
	if json.Unmarshal(a.body, &t) != nil {
		t = taskDoc{}
	}
	switch judge(t) {
	case succeeded:
		return nil
	case failed:
		return c.taskFailed(op, t)
	case inFlight:
	}
	uris := c.taskURIs(a.header.Get("Location"), t)
	if len(uris) == 0 {
		return nil
	}
	return c.follow(ctx, op, uris)
}

// taskURIs lists where the task may be read, best first: the task itself
// rather than its monitor, whose end is only a status (xFusion's Location is
// the monitor under the task, AMI sends no Location at all: vendors.md 7.4).
// The host of an absolute Location is not looked at: it may be the BMC's own
// name for itself, and nothing but a GET is sent to the path on our own host.
func (c *Client) taskURIs(location string, t taskDoc) []string {
	var out []string
	add := func(ref string) {
		if i := strings.Index(ref, "://"); i >= 0 {
			if j := strings.IndexByte(ref[i+3:], '/'); j >= 0 {
				ref = ref[i+3+j:]
			}
		}
		if uri, err := c.endpoint.local(ref); ref != "" && err == nil {
			out = append(out, uri)
		}
	}
	if task, monitor := strings.CutSuffix(strings.TrimRight(location, "/"), "/Monitor"); monitor {
		add(task)
	}
	add(location)
	add(t.URI.v)
	add(t.Monitor.v)
	return out
}

// follow polls until the task has ended.
func (c *Client) follow(ctx context.Context, op string, uris []string) error {
	deadline := c.clock.Now().Add(c.timeouts.Task)
	for pause := firstPoll; ; pause = min(pause*8/5, lastPoll) {
		if c.clock.Now().After(deadline) {
			return &bmc.Error{
				Op: op, Kind: bmc.KindTimeout, Uncertain: true,
				Err:  errors.New("the BMC's task " + short(uris[0]) + " has not ended after " + c.timeouts.Task.String()),
				Hint: "look at the task on the BMC; run again when it has ended",
			}
		}
		if c.clock.Sleep(ctx, pause) != nil {
			return c.lost(ctx, op, request{method: http.MethodPost, uri: uris[0]}, true, ctx.Err())
		}
		state, err := c.poll(ctx, op, uris[0])
		switch {
		case gone(err) && len(uris) > 1:
			uris = uris[1:]
		case gone(err):
			return nil // ended and cleared away
		case bmc.KindOf(err) == bmc.KindBusy && err != nil:
		case err != nil:
			return unread(op, err)
		case state == succeeded:
			return nil
		}
	}
}

// poll reads the task once.
func (c *Client) poll(ctx context.Context, op, uri string) (outcome, error) {
	a, err := c.ask(ctx, op, request{method: http.MethodGet, uri: uri})
	if err != nil {
		return inFlight, err
	}
	var t taskDoc
	if json.Unmarshal(a.body, &t) != nil {
		t = taskDoc{}
	}
	switch {
	case t.State.set:
		if judge(t) == failed {
			return failed, c.taskFailed(op, t)
		}
		return judge(t), nil
	case a.status == http.StatusAccepted:
		return inFlight, nil
	}
	return succeeded, nil // a monitor's end
}

// unread is an error met while a task was waited for: the request itself was
// taken, so it may have acted. What the task itself says is certain.
func unread(op string, err error) error {
	if e, ok := errors.AsType[*bmc.Error](err); ok {
		if _, said := errors.AsType[*taskError](err); !said {
			e.Uncertain = true
		}
		e.Op = op
	}
	return err
}

// taskError is a task that ended badly.
type taskError struct{ text string }

func (t *taskError) Error() string { return t.text }

// taskFailed tells why, by the task's last words of note.
func (c *Client) taskFailed(op string, t taskDoc) error {
	kind, ok := c.kindOf(t.Messages.v)
	if !ok {
		kind = bmc.KindProtocol
	}
	text := "the BMC's task ended as " + c.clean(t.State.v)
	if said := c.quote(t.Messages.v, answer{header: http.Header{}}); said != "" {
		text += ": " + said
	}
	return &bmc.Error{Op: op, Kind: kind, Hint: hintFor(kind, 0), Err: &taskError{text}}
}
