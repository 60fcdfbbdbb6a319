package recording

import (
	"bytes"
	"encoding/json"
)

// A rewriter writes a JSON document again, token by token.
type rewriter struct {
	f   func(way []string, text string) string
	key func(string) string // what becomes of names of properties; nil: nothing
	way []string
	out bytes.Buffer
}

// value rewrites a document, which is valid.
func (w *rewriter) value(doc json.RawMessage) json.RawMessage {
	dec := json.NewDecoder(bytes.NewReader(doc))
	dec.UseNumber()
	w.any(dec)
	return w.out.Bytes()
}

func (w *rewriter) any(dec *json.Decoder) {
	t, err := dec.Token()
	if err != nil {
		return
	}
	switch t := t.(type) {
	case json.Delim:
		if t == '{' {
			w.object(dec)
		} else {
			w.list(dec)
		}
	case string:
		w.string(w.f(w.way, t))
	case json.Number:
		w.out.WriteString(t.String())
	case bool:
		if t {
			w.out.WriteString("true")
		} else {
			w.out.WriteString("false")
		}
	default:
		w.out.WriteString("null")
	}
}

func (w *rewriter) object(dec *json.Decoder) {
	w.out.WriteByte('{')
	for first := true; dec.More(); first = false {
		if !first {
			w.out.WriteByte(',')
		}
		t, err := dec.Token()
		name, ok := t.(string)
		if err != nil || !ok {
			return
		}
		w.way = append(w.way, name)
		if w.key != nil {
			name = w.key(name)
		}
		w.string(name)
		w.out.WriteByte(':')
		w.any(dec)
		w.way = w.way[:len(w.way)-1]
	}
	_, _ = dec.Token() // the brace
	w.out.WriteByte('}')
}

func (w *rewriter) list(dec *json.Decoder) {
	w.out.WriteByte('[')
	for first := true; dec.More(); first = false {
		if !first {
			w.out.WriteByte(',')
		}
		w.any(dec)
	}
	_, _ = dec.Token() // the bracket
	w.out.WriteByte(']')
}

func (w *rewriter) string(s string) {
	var b bytes.Buffer
	enc := json.NewEncoder(&b)
	enc.SetEscapeHTML(false)
	_ = enc.Encode(s) // a string always has a form
	w.out.Write(bytes.TrimSuffix(b.Bytes(), []byte("\n")))
}
