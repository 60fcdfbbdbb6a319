package isomap

import (
	"slices"
	"sort"
)

// A Span is a piece of an image, in bytes from its start: From and what follows,
// up to To, which is not part of it.
type Span struct {
	From int64 `json:"from"`
	To   int64 `json:"to"`
}

// maxSpans bounds the memory that a reader takes who skips about.
const maxSpans = 512

// Spans are pieces of an image, in order and apart from each other. The zero
// value is none. They take a bounded amount of memory: where there would be more
// than a few hundred, the two that are nearest to each other become one, which
// counts the gap between them as well.
type Spans []Span

// Add adds the bytes from from up to to.
func (s *Spans) Add(from, to int64) {
	if to <= from {
		return
	}
	list := *s
	// All that touch the new one become part of it.
	first := sort.Search(len(list), func(i int) bool { return list[i].To >= from })
	last := first
	for last < len(list) && list[last].From <= to {
		from, to = min(from, list[last].From), max(to, list[last].To)
		last++
	}
	*s = slices.Replace(list, first, last, Span{from, to})
	if len(*s) > maxSpans {
		s.joinNearest()
	}
}

func (s *Spans) joinNearest() {
	list, at := *s, 0
	for i := range len(list) - 1 {
		if list[i+1].From-list[i].To < list[at+1].From-list[at].To {
			at = i
		}
	}
	list[at].To = list[at+1].To
	*s = slices.Delete(list, at+1, at+2)
}

// Bytes is how many bytes they are in all.
func (s Spans) Bytes() int64 {
	var n int64
	for _, x := range s {
		n += x.To - x.From
	}
	return n
}

// Within is how many of the bytes of x are among them.
func (s Spans) Within(x Span) int64 {
	var n int64
	for i := sort.Search(len(s), func(i int) bool { return s[i].To > x.From }); i < len(s) && s[i].From < x.To; i++ {
		n += min(s[i].To, x.To) - max(s[i].From, x.From)
	}
	return n
}
