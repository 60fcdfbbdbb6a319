package bmcsim

import (
	"regexp"
	"time"
)

// A Fault is a scripted misfortune: what happens to the requests it names.
type Fault struct {
	Method      string // "" is any
	Writes      bool   // only what is no GET
	PathPattern string // a regular expression over the path without a trailing slash; "" is any
	Nth         int    // the first matching request that it strikes, from 1; 0 is 1
	Count       int    // how many in a row it strikes; 0 is 1, negative is all from then on
	Do          Do
}

// Do is what a Fault does to a request.
type Do struct {
	What       What
	Status     int           // DoStatus: the code
	RetryAfter time.Duration // DoStatus: sent in whole seconds, 0 is not
	MessageID  string        // DoStatus: in place of the usual one
	To         string        // DoRedirect: the URL
}

// What says what a Fault does.
type What string

// The kinds of misfortune.
const (
	DoStatus       What = "status"        // an error answer; nothing is done
	DoHTML         What = "html"          // 200 with a page for people; nothing is done
	DoHalfBody     What = "half-body"     // the answer breaks off in the middle
	DoWrongTypes   What = "wrong-types"   // numbers where strings belong, and the reverse
	DoHang         What = "hang"          // no answer until the client gives up
	DoCloseBefore  What = "close-before"  // the connection is closed; nothing is done
	DoCloseAfter   What = "close-after"   // it is done, then the connection is closed
	DoHuge         What = "huge"          // a document of 50 MB
	DoMemberLoop   What = "member-loop"   // the collection's only member is itself
	DoNextLinkLoop What = "nextlink-loop" // the collection's next page is itself
	DoRedirect     What = "redirect"      // 307 to To, another host
)

type scriptedFault struct {
	Fault
	path *regexp.Regexp
	seen int
}

// Faults replaces the scripted faults; their counting starts anew. For each
// request the first that strikes is the one that happens. It panics when a
// PathPattern is not a regular expression.
func (m *Machine) Faults(faults ...Fault) {
	var scripted []*scriptedFault
	for _, f := range faults {
		scripted = append(scripted, &scriptedFault{Fault: f, path: regexp.MustCompile(f.PathPattern)})
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	m.faults = scripted
}

// strike tells what happens to a request. All matching faults count it. The lock
// is held by the caller.
func (m *Machine) strike(method, path string) Do {
	var do Do
	for _, f := range m.faults {
		if f.Method != "" && f.Method != method || f.Writes && isRead(method) || !f.path.MatchString(path) {
			continue
		}
		f.seen++
		first, count := max(f.Nth, 1), f.Count
		if count == 0 {
			count = 1
		}
		if do.What == "" && f.seen >= first && (count < 0 || f.seen < first+count) {
			do = f.Do
		}
	}
	return do
}
