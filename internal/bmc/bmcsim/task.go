package bmcsim

import (
	"strconv"
	"time"
)

// A task is a change that goes on after the request for it was taken. Its fields
// are guarded by the machine's lock.
type task struct {
	id      string
	name    string
	style   TaskStyle
	started time.Time
	ended   time.Time
	err     *refusal
	done    chan struct{} // closed when it has ended
}

// newTask starts a task, which shows in the TaskService only once it is listed.
// The lock is held by the caller.
func (m *Machine) newTask(name string, style TaskStyle) *task {
	m.lastTask++
	return &task{id: strconv.Itoa(m.lastTask), name: name, style: style, started: time.Now(), done: make(chan struct{})}
}

func (t *task) end(err *refusal) {
	t.err, t.ended = err, time.Now()
	close(t.done)
}

func (t *task) state() string {
	switch {
	case t.ended.IsZero():
		return "Running"
	case t.err != nil:
		return "Exception"
	}
	return "Completed"
}

// maxTasks is how many tasks are kept; the ended ones make room for others.
const maxTasks = 50

func (m *Machine) forgetTasks() {
	if len(m.tasks) < maxTasks {
		return
	}
	for id, t := range m.tasks {
		if !t.ended.IsZero() {
			delete(m.tasks, id)
		}
	}
}

const tasksPath = "/redfish/v1/TaskService/Tasks"

func (t *task) path() string { return tasksPath + "/" + t.id }

// document is the Task resource.
func (m *Machine) taskDocument(t *task) doc {
	d := doc{
		"@odata.id": t.path(), "@odata.type": "#Task.v1_4_1.Task",
		"Id": t.id, "Name": t.name,
		"TaskState": t.state(), "TaskStatus": "OK",
		"StartTime":   stamp(t.started),
		"TaskMonitor": t.path() + "/Monitor",
	}
	message := doc{"MessageId": m.kind.baseRegistry + ".Success", "Message": "Successfully Completed Request", "Severity": "OK"}
	switch {
	case t.ended.IsZero():
		message = doc{"MessageId": "TaskEvent.1.0.TaskStarted", "Message": "The task has started.", "Severity": "OK"}
	case t.err != nil:
		d["TaskStatus"] = "Critical"
		message = doc{"MessageId": t.err.id, "Message": t.err.message, "Severity": "Critical"}
		fallthrough
	default:
		d["EndTime"] = stamp(t.ended)
	}
	d["Messages"] = []any{message}
	if m.behaviour.MessagesAsObject {
		d["Messages"] = message
	}
	return d
}

func stamp(t time.Time) string { return t.UTC().Format("2006-01-02T15:04:05+00:00") }
