// Package spelling finds the name that a person probably meant.
package spelling

// Nearest returns the candidate that is fewest edits away from word, the
// earliest of several, or "" when none is near enough to be worth suggesting:
// within a third of word's length, and within one edit for short words. It
// reads candidates of similar length only, so that a list of ten thousand
// names costs little.
func Nearest(word string, candidates []string) string {
	w := []rune(word)
	if len(w) > 256 {
		return ""
	}
	limit := max(1, (len(w)+1)/3)
	best := ""
	for _, c := range candidates {
		if c == word || len(c) > 1024 {
			continue
		}
		if d := distance(w, []rune(c), limit); d <= limit {
			best, limit = c, d-1
		}
	}
	return best
}

// distance is the number of insertions, deletions, replacements and swaps of
// neighbours that turn a into b, or limit+1 when it is more than limit.
func distance(a, b []rune, limit int) int {
	if abs(len(a)-len(b)) > limit {
		return limit + 1
	}
	before, last, row := make([]int, len(b)+1), make([]int, len(b)+1), make([]int, len(b)+1)
	for j := range last {
		last[j] = j
	}
	for i := 1; i <= len(a); i++ {
		row[0] = i
		smallest := i
		for j := 1; j <= len(b); j++ {
			cost := 1
			if a[i-1] == b[j-1] {
				cost = 0
			}
			row[j] = min(last[j]+1, row[j-1]+1, last[j-1]+cost)
			if i > 1 && j > 1 && a[i-1] == b[j-2] && a[i-2] == b[j-1] {
				row[j] = min(row[j], before[j-2]+1)
			}
			smallest = min(smallest, row[j])
		}
		if smallest > limit {
			return limit + 1
		}
		before, last, row = last, row, before
	}
	return last[len(b)]
}

func abs(n int) int { return max(n, -n) }
