package noderange

import (
	"slices"
	"strconv"
	"strings"
)

// Fold returns the shortest usual way to write the names, each once and in the
// order of Compare: "ncn-m001,x3000c0s[3-9]b0n0". Expand returns the same names.
func Fold(names []string) string {
	names = slices.Clone(names)
	Sort(names)
	names = slices.Compact(names)
	var skeletons []string // in the order in which they first appear
	bySkeleton := map[string][]folded{}
	for _, n := range names {
		s, f := split(n)
		if _, ok := bySkeleton[s]; !ok {
			skeletons = append(skeletons, s)
		}
		bySkeleton[s] = append(bySkeleton[s], f)
	}
	var out []string
	for _, s := range skeletons {
		for _, f := range merge(bySkeleton[s]) {
			out = append(out, f.String())
		}
	}
	return strings.Join(out, ",")
}

// folded is names that differ in their numbers only: texts[0], one of
// numbers[0], texts[1], one of numbers[1], …, the last text.
type folded struct {
	texts   []string
	numbers [][]string
}

// split takes a name apart at its numbers. Names of one skeleton can be folded
// together. Digits too many for a range stay text.
func split(name string) (skeleton string, f folded) {
	text := ""
	for name != "" {
		if !isDigit(name[0]) {
			text, name = text+name[:1], name[1:]
			continue
		}
		var digits string
		digits, name = cutDigits(name)
		if len(digits) > maxDigits {
			text += digits
			continue
		}
		f.texts, f.numbers, text = append(f.texts, text), append(f.numbers, []string{digits}), ""
	}
	f.texts = append(f.texts, text)
	return strings.Join(f.texts, "\x00"), f
}

// merge joins names that are alike in all numbers but one, for each number in
// turn from the last to the first.
func merge(fs []folded) []folded {
	for axis := len(fs[0].numbers) - 1; axis >= 0; axis-- {
		var joined []folded
		at := map[string]int{}
		for _, f := range fs {
			key := f.keyWithout(axis)
			i, ok := at[key]
			if !ok {
				at[key] = len(joined)
				joined = append(joined, f)
				continue
			}
			joined[i].numbers[axis] = append(joined[i].numbers[axis], f.numbers[axis]...)
		}
		fs = joined
	}
	return fs
}

// keyWithout is what two names must have in common to be joined at an axis.
func (f folded) keyWithout(axis int) string {
	var b strings.Builder
	for i, ns := range f.numbers {
		if i != axis {
			for _, n := range ns {
				b.WriteString(n)
				b.WriteByte(',')
			}
		}
		b.WriteByte(';')
	}
	return b.String()
}

// String writes the names as one name with ranges.
func (f folded) String() string {
	var b strings.Builder
	for i, ns := range f.numbers {
		b.WriteString(f.texts[i])
		if len(ns) == 1 {
			b.WriteString(ns[0])
			continue
		}
		b.WriteByte('[')
		writeSpans(&b, ns)
		b.WriteByte(']')
	}
	b.WriteString(f.texts[len(f.texts)-1])
	return b.String()
}

// writeSpans writes sorted numbers as "3-5,9".
func writeSpans(b *strings.Builder, ns []string) {
	for i := 0; i < len(ns); {
		j := i
		for j+1 < len(ns) && follows(ns[i], ns[j], ns[j+1]) {
			j++
		}
		if i > 0 {
			b.WriteByte(',')
		}
		b.WriteString(ns[i])
		if j > i {
			b.WriteByte('-')
			b.WriteString(ns[j])
		}
		i = j + 1
	}
}

// follows tells whether next continues a span that begins with first and has
// come to last: the next number, written as Expand would write it.
func follows(first, last, next string) bool {
	n, err := strconv.Atoi(last)
	if err != nil {
		return false
	}
	width := 0
	if first[0] == '0' {
		width = len(first)
	}
	return next == pad(n+1, width) && (width <= 1 || len(next) == width)
}
