package overlay_test

import (
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"

	"github.com/livecd-sync/livecd-sync/internal/overlay"
)

// changes is a random sequence of what people and programs do to a tree, as a
// shell script. What turns out to be impossible is passed over.
func changes(r *rand.Rand, steps int) string {
	names := []string{
		"opaque", "opaque/old", "opaque/sub", "gone-dir", "gone-dir/deep", "kept", "kept/a", "kept/a/b", "kept/a/b/f", "renamed",
		"renamed/inside", "renamed/inside/f", "held", "held/f", "turned-file", "turned-dir", "turned-link", "modified", "appended",
		"replaced", "linked-lower", "acl-file", "acl-dir", "emptied", "emptied/f", "to-kept", "mounted/f",
	}
	pick := func() string { return names[r.IntN(len(names))] }
	fresh := func() string {
		parent, name := pick(), fmt.Sprintf("n%d", len(names))
		if r.IntN(3) == 0 {
			name = fmt.Sprintf("odd \\\n'%d", len(names))
		}
		if r.IntN(2) == 0 {
			name = parent + "/" + name
		}
		names = append(names, name)
		return name
	}
	q := func(name string) string { return "'" + strings.ReplaceAll(name, "'", `'\''`) + "'" }
	var b strings.Builder
	b.WriteString("exec 2>/dev/null; cd /lab\n")
	for range steps {
		a, c := q(pick()), q(pick())
		switch r.IntN(18) {
		case 0, 1:
			fmt.Fprintf(&b, "echo %d >%s\n", r.Uint32(), q(fresh()))
		case 2:
			fmt.Fprintf(&b, "mkdir %s\n", q(fresh()))
		case 3, 4:
			fmt.Fprintf(&b, "rm -rf %s\n", a)
		case 5:
			fmt.Fprintf(&b, "rm -rf %s; mkdir %s\n", a, a)
		case 6, 7:
			fmt.Fprintf(&b, "mv -T %s %s\n", a, q(fresh()))
		case 8:
			fmt.Fprintf(&b, "mv -T %s %s\n", a, c)
		case 9:
			fmt.Fprintf(&b, "[ -f %s ] && echo more >>%s\n", a, a)
		case 10:
			fmt.Fprintf(&b, "[ -L %s ] || chmod %o %s\n", a, 0o400|r.IntN(0o400), a)
		case 11:
			fmt.Fprintf(&b, "chown -h %d:%d %s\n", r.Uint32N(1<<31), r.Uint32N(1<<31), a)
		case 12:
			fmt.Fprintf(&b, "[ -f %s ] && ln %s %s\n", a, a, q(fresh()))
		case 13:
			fmt.Fprintf(&b, "ln -s %s %s\n", c, q(fresh()))
		case 14:
			fmt.Fprintf(&b, "setfattr -h -n trusted.t%d -v %d %s\n", r.IntN(3), r.Uint32(), a)
		case 15:
			fmt.Fprintf(&b, "[ -L %s ] || setfacl -m u:%d:r %s\n", a, r.IntN(1000), a)
		case 16:
			fmt.Fprintf(&b, "touch -h -d @%d.%09d %s\n", r.Int32(), r.IntN(1e9), a)
		case 17:
			fmt.Fprintf(&b, "[ -e %[1]s ] || truncate -s %[2]d %[1]s; mkfifo %[3]s\n", q(fresh()), r.IntN(1<<24), q(fresh()))
		}
	}
	b.WriteString("exit 0\n")
	return b.String()
}

// TestAnyChanges: for any tree of changes, the merged view after backup, fresh
// boot and restore is the merged view before. Half way there is a backup, for the
// last one to be based on.
func TestAnyChanges(t *testing.T) {
	for seed := range uint64(8) {
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			t.Parallel() // it mostly waits
			m := newMachine(t)
			s := openStore(t, t.TempDir())
			r := rand.New(rand.NewPCG(seed, 1))
			options := []string{"", "metacopy=on,redirect_dir=on"}[seed%2]
			n := m.boot(t, options)
			script := changes(r, 60)
			n.run(script)
			if seed%4 == 0 {
				later()
			}
			_, err := overlay.Backup(t.Context(), n.conn, s, request(overlay.PurposeManual))
			must(t, err)
			later()
			second := changes(r, 25)
			n.run(second)
			last, err := overlay.Backup(t.Context(), n.conn, s, request(overlay.PurposeManual))
			must(t, err)
			t.Logf("based on %q, %d of %d members copied, %d flattened: %q", last.Base, last.Copied, last.Counts.Entries, last.Flattened, last.Warnings)
			before := n.view()

			n = m.boot(t, "")
			n.hold()
			report, err := overlay.Restore(t.Context(), n.conn, s, overlay.RestoreRequest{Node: "n1", ID: last.ID})
			must(t, err)
			list := differences(before, n.view())
			if len(list)+len(report.Differences)+len(report.Warnings) > 0 {
				t.Errorf("%d differences:\n%s\nreport: %+v\nafter:\n%s%s", len(list), strings.Join(list, "\n"), report, script, second)
			}
		})
	}
}
