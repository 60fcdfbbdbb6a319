package isomap

import (
	"math/rand/v2"
	"testing"
)

// Spans are compared with the plainest thing that could be right: a byte each.
func TestSpans(t *testing.T) {
	const size = 2000
	random := rand.New(rand.NewPCG(1, 2))
	for range 200 {
		var s Spans
		var plain [size]bool
		for range 60 {
			from := random.IntN(size)
			to := min(size, from+random.IntN(40))
			s.Add(int64(from), int64(to))
			for i := from; i < to; i++ {
				plain[i] = true
			}
		}
		from := random.IntN(size)
		to := from + random.IntN(size-from)
		all, within := 0, 0
		for i, read := range plain {
			if read {
				all++
				if i >= from && i < to {
					within++
				}
			}
		}
		if s.Bytes() != int64(all) || s.Within(Span{int64(from), int64(to)}) != int64(within) {
			t.Fatalf("%d bytes and %d within %d-%d, want %d and %d: %v", s.Bytes(), s.Within(Span{int64(from), int64(to)}), from, to, all, within, s)
		}
		for i := 1; i < len(s); i++ {
			if s[i].From <= s[i-1].To {
				t.Fatalf("not in order and apart: %v", s)
			}
		}
	}
}

// Who skips about takes no more memory than anybody else, and nothing that was
// read is forgotten.
func TestSpansAreBounded(t *testing.T) {
	var s Spans
	const n = 100_000
	for i := range int64(n) {
		at := (i * 7919 % n) * 10
		s.Add(at, at+1)
		if len(s) > maxSpans {
			t.Fatalf("%d spans", len(s))
		}
		if s.Within(Span{at, at + 1}) != 1 {
			t.Fatalf("byte %d was read and is not there", at)
		}
	}
	if s.Bytes() < n {
		t.Errorf("%d bytes, and %d were read", s.Bytes(), n)
	}
	s.Add(5, 5)
	s.Add(7, 3)
}
