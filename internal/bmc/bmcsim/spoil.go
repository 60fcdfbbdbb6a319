package bmcsim

import (
	"bytes"
	"encoding/json"
	"net/http"
	"strconv"
	"strings"
)

// suffer answers a request under a fault. A status of 0 means that the
// connection is closed; spoil, if not nil, ruins the body of the answer.
func (m *Machine) suffer(r *http.Request, c *call, do Do) (a answer, spoil func([]byte) []byte) {
	switch do.What {
	case DoHang:
		select {
		case <-c.ctx.Done():
		case <-m.ctx.Done():
		}
		return answer{}, nil
	case DoCloseBefore:
		return answer{}, nil
	case DoStatus:
		return m.faultStatus(do), nil
	case DoRedirect:
		return answer{status: http.StatusTemporaryRedirect, header: http.Header{"Location": {do.To}}}, nil
	case DoHTML:
		return answer{status: http.StatusOK, header: http.Header{}, body: doc{}}, func([]byte) []byte { return []byte(page) }
	case DoHuge:
		return answer{status: http.StatusOK, header: http.Header{}, body: doc{}}, func([]byte) []byte { return hugeDocument() }
	case DoHalfBody, DoWrongTypes, DoCloseAfter, DoMemberLoop, DoNextLinkLoop: // it is done first
	}
	a = m.answer(r, c)
	if do.What == DoCloseAfter {
		return answer{}, nil
	}
	return a, spoils[do.What]
}

const page = "<!DOCTYPE html>\n<html><head><title>Please log in</title></head><body><h1>Web console</h1></body></html>\n"

// spoils are the faults that ruin an answer which is otherwise right.
var spoils = map[What]func([]byte) []byte{
	DoHalfBody:     func(b []byte) []byte { return b[:len(b)/2] },
	DoWrongTypes:   func(b []byte) []byte { return rewrite(b, wrongType) },
	DoMemberLoop:   func(b []byte) []byte { return loop(b, memberLoop) },
	DoNextLinkLoop: func(b []byte) []byte { return loop(b, nextLinkLoop) },
}

func (m *Machine) faultStatus(do Do) answer {
	name, ok := faultWords[do.Status]
	if !ok {
		name = "GeneralError"
	}
	r := m.kind.refuse(name)
	r.status = do.Status
	if do.MessageID != "" {
		r.id = do.MessageID
	}
	a := m.refused(r)
	if s := int(do.RetryAfter.Seconds()); s > 0 {
		a.header.Set("Retry-After", strconv.Itoa(s))
	}
	return a
}

// faultWords is what a BMC says with a status that a fault made up.
var faultWords = map[int]string{
	http.StatusUnauthorized:        "NoValidSession",
	http.StatusForbidden:           "InsufficientPrivilege",
	http.StatusNotFound:            "ResourceMissingAtURI",
	http.StatusConflict:            "ResourceInUse",
	http.StatusPreconditionFailed:  "PreconditionFailed",
	http.StatusInternalServerError: "InternalError",
	http.StatusServiceUnavailable:  "ServiceUnavailable",
}

// hugeDocument is a resource of 50 MB.
func hugeDocument() []byte {
	var b bytes.Buffer
	b.WriteString(`{"@odata.id":"/redfish/v1","Name":"`)
	b.Write(bytes.Repeat([]byte("A"), 50<<20))
	b.WriteString(`"}`)
	return b.Bytes()
}

// rewrite puts every value of a document through f, which is told its property's
// name ("" in an array).
func rewrite(body []byte, f func(name string, v any) any) []byte {
	var d any
	if json.Unmarshal(body, &d) != nil {
		return body
	}
	b, err := json.Marshal(walk("", d, f))
	if err != nil {
		return body
	}
	return b
}

func walk(name string, v any, f func(string, any) any) any {
	switch v := v.(type) {
	case map[string]any:
		for k, e := range v {
			v[k] = walk(k, e, f)
		}
	case []any:
		for i, e := range v {
			v[i] = walk("", e, f)
		}
	}
	return f(name, v)
}

// wrongType makes numbers of strings and strings of truth values, but leaves
// links and identity alone, so that a client gets as far as reading them.
func wrongType(name string, v any) any {
	if strings.HasPrefix(name, "@") || name == "Id" || name == "target" || name == "" {
		return v
	}
	switch v.(type) {
	case string:
		return 42
	case bool:
		return "yes"
	case float64:
		return "42"
	}
	return v
}

// withSlashes ends every link with a slash.
func withSlashes(body []byte) []byte {
	return rewrite(body, func(name string, v any) any {
		s, ok := v.(string)
		if !ok || name != "@odata.id" && name != "target" && name != "@Redfish.ActionInfo" && name != "TaskMonitor" {
			return v
		}
		return trimSlash(s) + "/"
	})
}

// loop changes a collection and leaves other documents alone.
func loop(body []byte, f func(d map[string]any)) []byte {
	var d map[string]any
	if json.Unmarshal(body, &d) != nil || d["Members"] == nil {
		return body
	}
	f(d)
	b, err := json.Marshal(d)
	if err != nil {
		return body
	}
	return b
}

func memberLoop(d map[string]any) {
	d["Members"] = []any{doc{"@odata.id": d["@odata.id"]}}
	d["Members@odata.count"] = 1
}

func nextLinkLoop(d map[string]any) { d["Members@odata.nextLink"] = d["@odata.id"] }
