package noderange_test

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/livecd-sync/livecd-sync/internal/site"
	"github.com/livecd-sync/livecd-sync/internal/site/noderange"
)

func TestExpand(t *testing.T) {
	for _, tc := range []struct{ expr, want string }{
		{"ncn-m001", "ncn-m001"},
		{"x3000c0s[1-9]b0n0", "x3000c0s1b0n0 x3000c0s2b0n0 x3000c0s3b0n0 x3000c0s4b0n0 x3000c0s5b0n0 x3000c0s6b0n0 x3000c0s7b0n0 x3000c0s8b0n0 x3000c0s9b0n0"},
		{"ncn-m00[1-3],ncn-w001", "ncn-m001 ncn-m002 ncn-m003 ncn-w001"},
		{"nid[000009-000011]", "nid000009 nid000010 nid000011"},
		{"nid[001001-001003,001005]", "nid001001 nid001002 nid001003 nid001005"},
		{"foo[19]", "foo19"},
		{"n[0-8/4]", "n0 n4 n8"},
		{"n[0-9/4]", "n0 n4 n8"},
		{"n[08-11]", "n08 n09 n10 n11"},
		{"n[8-11]", "n8 n9 n10 n11"},
		{"n[0-2]", "n0 n1 n2"},
		{"n[01]", "n01"},
		{"n1[0-2]", "n10 n11 n12"},
		{"[1-2]n", "1n 2n"},
		{"r[1-2]n[01-02]", "r1n01 r1n02 r2n01 r2n02"},
		{"r[1-2][3-4]", "r13 r14 r23 r24"},
		{"b,a b\tc\n", "b a c"},
		{" a , b ", "a b"},
		{"n[3,1-3]", "n3 n1 n2"},
	} {
		got, err := noderange.Expand(tc.expr)
		if err != nil {
			t.Errorf("Expand(%q): %v", tc.expr, err)
			continue
		}
		if d := cmp.Diff(strings.Fields(tc.want), got); d != "" {
			t.Errorf("Expand(%q) (-want +got):\n%s", tc.expr, d)
		}
	}
}

func TestExpandErrors(t *testing.T) {
	for _, tc := range []struct {
		expr   string
		column int
		want   string
	}{
		{"", 1, "a name is missing; write one name or range between two commas"},
		{"a,,b", 3, "a name is missing; write one name or range between two commas"},
		{"a,", 3, "a name is missing; write one name or range between two commas"},
		{",a", 1, "a name is missing; write one name or range between two commas"},
		{"n[1-3", 2, "this bracket is not closed; write ] after the range"},
		{"n1-3]", 5, `']' cannot be in a node's name; write [ before the range`},
		{"n[]", 3, "a number is missing; write ranges such as [3-9], [1,4-6] or [0-8/2]"},
		{"n[1,]", 5, "a number is missing; write ranges such as [3-9], [1,4-6] or [0-8/2]"},
		{"n[1-]", 5, "a number is missing; write ranges such as [3-9], [1,4-6] or [0-8/2]"},
		{"n[1-3/]", 7, "a number is missing; write ranges such as [3-9], [1,4-6] or [0-8/2]"},
		{"n[a-c]", 3, "a number is missing; write ranges such as [3-9], [1,4-6] or [0-8/2]"},
		{"n[1:3]", 4, `':' does not belong in a range; write ranges such as [3-9], [1,4-6] or [0-8/2]`},
		{"n[1-3-5]", 6, `'-' does not belong in a range; write ranges such as [3-9], [1,4-6] or [0-8/2]`},
		{"n[9-3]", 5, "the range ends at 3, before its start at 9; write 3-9"},
		{"n[01-100]", 6, "100 has not as many digits as the start of the range, which is padded with zeros; write both ends with the same number of digits"},
		{"n[1-5/0]", 7, "a step of 0 never gets anywhere; write a step of 1 or more"},
		{"n[1-9999999999999999]", 5, "this number has more than 15 digits; write smaller numbers"},
		{"a,n[1-65537]", 3, "this expands to more than 65536 names; write smaller ranges"},
		{"n[1-300]m[1-300]", 1, "this expands to more than 65536 names; write smaller ranges"},
		{"n[1-40000],m[1-40000]", 12, "this expands to more than 65536 names; write smaller ranges"},
		{"n*", 2, `'*' cannot be in a node's name; write a range such as [1-9] or a group such as @compute`},
		{"n[1-3]!n2", 7, `'!' cannot be in a node's name; write the nodes to leave out after -x`},
		{"nö", 2, `'ö' cannot be in a node's name; write letters, digits, dots, dashes and underscores, and ranges such as [1-9]`},
		{"a,@compute", 3, "a group cannot be used here; write the names of its nodes"},
	} {
		names, err := noderange.Expand(tc.expr)
		e, ok := errors.AsType[*noderange.Error](err)
		if !ok {
			t.Errorf("Expand(%q) = %v, %v; want an *Error", tc.expr, len(names), err)
			continue
		}
		if got := e.Message + "; " + e.Hint; e.Column != tc.column || got != tc.want {
			t.Errorf("Expand(%q)\n got column %d: %s\nwant column %d: %s", tc.expr, e.Column, got, tc.column, tc.want)
		}
	}
}

func TestErrorText(t *testing.T) {
	_, err := noderange.Expand("n[9-3]")
	want := `node range "n[9-3]", column 5: the range ends at 3, before its start at 9; write 3-9`
	if err == nil || err.Error() != want {
		t.Errorf("got  %v\nwant %s", err, want)
	}
}

func TestExpandLimit(t *testing.T) {
	names, err := noderange.Expand("n[1-65536]")
	if err != nil || len(names) != noderange.MaxNames {
		t.Errorf("got %d names, %v", len(names), err)
	}
}

func TestExpandValue(t *testing.T) {
	for _, tc := range []struct{ value, want string }{
		{"10.252.1.[13-15]", "10.252.1.13 10.252.1.14 10.252.1.15"},
		{"https://x3000c0s[3-4]b0:8443", "https://x3000c0s3b0:8443 https://x3000c0s4b0:8443"},
		{"[2001:db8::1]:443", "[2001:db8::1]:443"},
		{"[2001:db8::[1-2]]:443", "[2001:db8::1]:443 [2001:db8::2]:443"},
		{"keys/node,[08-09]", "keys/node,08 keys/node,09"},
		{"", ""},
	} {
		got, err := noderange.ExpandValue(tc.value)
		if err != nil || strings.Join(got, " ") != tc.want {
			t.Errorf("ExpandValue(%q) = %q, %v; want %q", tc.value, got, err, tc.want)
		}
	}
	_, err := noderange.ExpandValue("10.0.0.[3-]")
	if e, ok := errors.AsType[*noderange.Error](err); !ok || e.Column != 11 {
		t.Errorf("ExpandValue of a bad range: %v", err)
	}
}

func TestExpandName(t *testing.T) {
	for _, name := range []string{"", "a,b", "a b", "@g", " a"} {
		if got, err := noderange.ExpandName(name); err == nil {
			t.Errorf("ExpandName(%q) = %q, want an error", name, got)
		}
	}
	got, err := noderange.ExpandName("n[1-2,5]")
	if err != nil || strings.Join(got, " ") != "n1 n2 n5" {
		t.Errorf("got %q, %v", got, err)
	}
}

func TestFold(t *testing.T) {
	for _, tc := range []struct{ names, want string }{
		{"", ""},
		{"a", "a"},
		{"x3000c0s9b0n0 ncn-m001 x3000c0s3b0n0 x3000c0s4b0n0 x3000c0s5b0n0", "ncn-m001,x3000c0s[3-5,9]b0n0"},
		{"n1 n2 n10", "n[1-2,10]"},
		{"n9 n10 n11", "n[9-11]"},
		{"n09 n10 n11", "n[09-11]"},
		{"n99 n100", "n[99-100]"},
		{"n099 n100", "n[099-100]"},
		{"n09 n9", "n[9,09]"},
		{"r1n1 r1n2 r2n1 r2n2", "r[1-2]n[1-2]"},
		{"r1n1 r1n2 r2n1", "r1n[1-2],r2n1"},
		{"0 1 2", "[0-2]"},
		{"n1 n1", "n1"},
		{"n12345678901234567890 n12345678901234567891", "n12345678901234567890,n12345678901234567891"},
	} {
		if got := noderange.Fold(strings.Fields(tc.names)); got != tc.want {
			t.Errorf("Fold(%s) = %s, want %s", tc.names, got, tc.want)
		}
	}
}

// TestFoldUnfold folds thousands of random lists and wants the same names back.
func TestFoldUnfold(t *testing.T) {
	rnd := rand.New(rand.NewPCG(1, 2))
	for range 5000 {
		checkFold(t, randomNames(rnd))
	}
}

func randomNames(rnd *rand.Rand) []string {
	forms := []string{"n%d", "n%02d", "n%03d", "x%dc%ds%db%d", "r%02dn%d", "%d", "a", "%d%03d", "n%d-%02d"}
	names := make([]string, 1+rnd.IntN(40))
	for i := range names {
		form := forms[rnd.IntN(len(forms))]
		args := make([]any, strings.Count(form, "%"))
		for j := range args {
			args[j] = rnd.IntN([]int{3, 12, 120, 1200}[rnd.IntN(4)])
		}
		names[i] = fmt.Sprintf(form, args...)
	}
	return names
}

func checkFold(t *testing.T, names []string) {
	t.Helper()
	want := slices.Clone(names)
	noderange.Sort(want)
	want = slices.Compact(want)
	folded := noderange.Fold(names)
	if len(want) == 0 {
		return
	}
	got, err := noderange.Expand(folded)
	if err != nil {
		t.Fatalf("Expand(Fold(%q)): %v", names, err)
	}
	if len(got) != len(want) {
		t.Fatalf("Expand(Fold(%q)) through %s has %d names", names, folded, len(got))
	}
	noderange.Sort(got)
	if d := cmp.Diff(want, got); d != "" {
		t.Fatalf("Expand(Fold(%q)) through %s (-want +got):\n%s", names, folded, d)
	}
}

func TestCompare(t *testing.T) {
	want := strings.Fields("1 2 10 a n n1 n01 n1a n1n01 n01n1 n2 n10 nb")
	for i, a := range want {
		for j, b := range want {
			if got := noderange.Compare(a, b); sign(got) != sign(i-j) {
				t.Errorf("Compare(%s, %s) = %d", a, b, got)
			}
		}
	}
}

func sign(n int) int { return max(-1, min(1, n)) }

var universe = noderange.Universe{
	Names: []string{"ncn-m001", "x3000c0s3b0n0", "x3000c0s4b0n0", "x3000c0s11b0n0"},
	Groups: map[string][]string{
		"compute": {"x3000c0s3b0n0", "x3000c0s4b0n0"},
		"spare":   {"x3000c0s11b0n0"},
	},
}

func TestSelect(t *testing.T) {
	for _, tc := range []struct{ include, exclude, want string }{
		{"", "", "ncn-m001 x3000c0s3b0n0 x3000c0s4b0n0 x3000c0s11b0n0"},
		{"x3000c0s[3-4]b0n0,ncn-m001", "", "ncn-m001 x3000c0s3b0n0 x3000c0s4b0n0"},
		{"@compute", "x3000c0s4b0n0", "x3000c0s3b0n0"},
		{"", "@compute,@spare", "ncn-m001"},
		{"@spare|@compute", "", "x3000c0s3b0n0 x3000c0s4b0n0 x3000c0s11b0n0"},
	} {
		got, err := universe.Select(exprs(tc.include), exprs(tc.exclude))
		if err != nil || strings.Join(got, " ") != tc.want {
			t.Errorf("Select(%q, %q) = %q, %v; want %q", tc.include, tc.exclude, got, err, tc.want)
		}
	}
}

func TestSelectOfSite(t *testing.T) {
	s := &site.Site{Nodes: []site.Node{{Name: "n1"}, {Name: "n2"}}, Groups: map[string][]string{"g": {"n2"}}}
	got, err := noderange.Universe{Names: s.NodeNames(), Groups: s.Groups}.Select([]string{"@g"}, nil)
	if err != nil || strings.Join(got, " ") != "n2" {
		t.Errorf("got %q, %v", got, err)
	}
}

func exprs(s string) []string {
	if s == "" {
		return nil
	}
	return strings.Split(s, "|")
}

func TestSelectErrors(t *testing.T) {
	for _, tc := range []struct{ include, exclude, want string }{
		{"ncn-m001,ncn-m01", "", `node range "ncn-m001,ncn-m01", column 10: the site has no node "ncn-m01"; did you mean ncn-m001?`},
		{"", "login1", `node range "login1", column 1: the site has no node "login1"; the site's nodes are ncn-m001,x3000c0s[3-4,11]b0n0`},
		{"@compte", "", `node range "@compte", column 1: the site has no group "compte"; did you mean @compute?`},
		{"@storage", "", `node range "@storage", column 1: the site has no group "storage"; the groups are @compute, @spare`},
		{"n[", "", `node range "n[", column 2: this bracket is not closed; write ] after the range`},
		{"@spare", "x3000c0s11b0n0", noderange.ErrNoneLeft.Error()},
	} {
		got, err := universe.Select(exprs(tc.include), exprs(tc.exclude))
		if err == nil || err.Error() != tc.want {
			t.Errorf("Select(%q, %q)\n got %q, %v\nwant %s", tc.include, tc.exclude, got, err, tc.want)
		}
	}
	_, err := noderange.Universe{}.Select([]string{"@a"}, nil)
	if want := `node range "@a", column 1: the site has no group "a"; the site has no groups`; err == nil || err.Error() != want {
		t.Errorf("got  %v\nwant %s", err, want)
	}
}

// FuzzExpand wants of any text either an error with a column inside it, or
// names that fold and unfold.
func FuzzExpand(f *testing.F) {
	for _, s := range []string{"x3000c0s[1-9]b0n0", "a,b", "n[01-10/3],@g", "n[1-", "[0-0][00-00]", "n[1-99999]", "a\x00b", "é[1]"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, expr string) {
		for _, expand := range []func(string) ([]string, error){noderange.Expand, noderange.ExpandName, noderange.ExpandValue} {
			names, err := expand(expr)
			if e, ok := errors.AsType[*noderange.Error](err); err != nil && (!ok || e.Column < 1 || e.Column > len(expr)+1 || e.Hint == "") {
				t.Fatalf("%q: %#v", expr, err)
			}
			if len(names) > noderange.MaxNames {
				t.Fatalf("%q: %d names", expr, len(names))
			}
		}
		names, err := noderange.Expand(expr)
		if err == nil && len(names) < 2000 {
			checkFold(t, names)
		}
	})
}

func BenchmarkFold(b *testing.B) {
	names, err := noderange.Expand("x[1000-1004]c[0-7]s[0-249]b0n0")
	if err != nil {
		b.Fatal(err)
	}
	b.ReportAllocs()
	for b.Loop() {
		noderange.Fold(names)
	}
}
