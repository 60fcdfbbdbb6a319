package overlay_test

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/livecd-sync/livecd-sync/internal/overlay"
)

// fill makes an overlay as administrators leave them: programs, logs, small
// files and what does not compress; some 300 MB.
const fill = `mkdir -p /lab/fill && cd /lab/fill && mkdir bin small
n=0; find /usr/bin /usr/lib -xdev -type f -size +50k -size -20000k 2>/dev/null | while read -r f; do
	s=$(stat -c %s "$f"); n=$((n+s)); [ $n -lt 150000000 ] || break; cp "$f" "bin/$n"
done
i=0; while [ $i -lt 40 ]; do seq -f "Nov 23 05:%04.0f host daemon[$i]: request %.0f answered" 1 40000 >log.$i; i=$((i+1)); done
i=0; while [ $i -lt 200 ]; do mkdir small/$i; (cd small/$i; seq 1 2000 | split -l 20 -a 3 -); i=$((i+1)); done
head -c 60000000 /dev/urandom >noise; sync`

// processor is the time, in seconds, that a process and those of its children
// that have ended have used.
func processor(b testing.TB, pid string) float64 {
	b.Helper()
	data, err := os.ReadFile("/proc/" + pid + "/stat")
	must(b, err)
	fields := strings.Fields(string(data[strings.LastIndexByte(string(data), ')')+2:]))
	sum := 0
	for _, f := range fields[11:15] { // utime stime cutime cstime, proc_pid_stat(5)
		n, err := strconv.Atoi(f)
		must(b, err)
		sum += n
	}
	return float64(sum) / 100
}

// spent measures the processor time of f: on the node, and here, with what was
// run here.
func spent(b testing.TB, n *node, f func()) (onNode, here float64) {
	b.Helper()
	usage := func() float64 {
		sum := 0.0
		for _, who := range []int{unix.RUSAGE_SELF, unix.RUSAGE_CHILDREN} {
			var u unix.Rusage
			must(b, unix.Getrusage(who, &u))
			sum += float64(u.Utime.Sec+u.Stime.Sec) + float64(u.Utime.Usec+u.Stime.Usec)/1e6
		}
		return sum
	}
	sshd := strings.TrimSuffix(strings.TrimPrefix(n.root, "/proc/"), "/root")
	before, own := processor(b, sshd), usage()
	f()
	// A session's processes count once their parent has seen them end.
	for range 50 {
		if strings.TrimSpace(children(b, sshd)) == "" {
			break
		}
		must(b, exec.Command("sleep", "0.02").Run())
	}
	return processor(b, sshd) - before, usage() - own
}

func children(b testing.TB, pid string) string {
	b.Helper()
	data, err := os.ReadFile("/proc/" + pid + "/task/" + pid + "/children")
	must(b, err)
	return string(data)
}

// BenchmarkAgainstThePage compares a backup with what the page that livecd-sync
// replaces has one do: tar czf into the node's memory, then scp. Both are done in
// one run, on the same overlay.
func BenchmarkAgainstThePage(b *testing.B) {
	m := newMachine(b)
	n := m.boot(b, "")
	n.run(fill)
	n.conn.Close()
	dir := b.TempDir()
	s := openStore(b, filepath.Join(dir, "store"))
	var page, ours [2]float64
	var first overlay.Manifest
	var memory int64
	for b.Loop() {
		node, here := spent(b, n, func() {
			c := n.redial(m)
			must(b, c.Run(b.Context(), overlay.Command{Script: "cd /run/overlay/overlayfs && tar czf /run/overlay.tar.gz rw"}))
			must(b, c.Close())
			run(b, "scp", "-O", "-q", "-i", m.path("identity"), "-P", fmt.Sprint(n.port), "-o", "StrictHostKeyChecking=no",
				"-o", "UserKnownHostsFile=/dev/null", "root@127.0.0.1:/run/overlay.tar.gz", filepath.Join(dir, "overlay.tar.gz"))
		})
		page[0], page[1] = page[0]+node, page[1]+here
		st, err := os.Stat(filepath.Join(dir, "overlay.tar.gz"))
		must(b, err)
		memory = st.Size()
		must(b, os.Remove(n.root+"/run/overlay.tar.gz"))

		node, here = spent(b, n, func() {
			c := n.redial(m)
			req := request(overlay.PurposeManual)
			req.Whole = true
			first, err = overlay.Backup(b.Context(), c, s, req)
			must(b, err)
			must(b, c.Close())
		})
		ours[0], ours[1] = ours[0]+node, ours[1]+here
	}
	b.Logf("processor seconds on the node and here: %.2f and %.2f by the page, %.2f and %.2f by livecd-sync", page[0], page[1], ours[0], ours[1])
	b.ReportMetric((page[0]+page[1])/(ours[0]+ours[1]), "x-less-processor")
	b.ReportMetric(page[0]/ours[0], "x-less-on-the-node")
	b.ReportMetric(float64(first.StoredBytes)/float64(memory), "of-its-bytes")
	b.ReportMetric(float64(memory)/1e6, "page-MB-of-node-memory")
	b.ReportMetric(float64(first.RawBytes)/1e6, "MB-raw")
}

// BenchmarkSecondBackup changes one file in a hundred and measures what moves,
// and what it costs, as parts of the first backup.
func BenchmarkSecondBackup(b *testing.B) {
	m := newMachine(b)
	n := m.boot(b, "")
	n.run(fill)
	later()
	n.conn.Close()
	s := openStore(b, filepath.Join(b.TempDir(), "store"))
	take := func() (got overlay.Manifest, node, here float64) {
		node, here = spent(b, n, func() {
			c := n.redial(m)
			var err error
			got, err = overlay.Backup(b.Context(), c, s, request(overlay.PurposeManual))
			must(b, err)
			must(b, c.Close())
		})
		return got, node, here
	}
	first, node1, here1 := take()
	later()
	c := n.redial(m)
	must(b, c.Run(b.Context(), overlay.Command{Script: `cd /lab/fill && i=0; for f in small/*/xaa bin/*; do
	i=$((i+1)); [ $((i % 100)) = 0 ] && echo changed >>"$f"; done; j=0; while [ $j -lt 200 ]; do echo changed >>small/$j/xab; j=$((j+1)); done; echo line >>log.7; exit 0`}))
	must(b, c.Close())
	var second overlay.Manifest
	var node, here float64
	for b.Loop() {
		second, node, here = take()
		must(b, s.Delete(b.Context(), "n1", second.ID))
	}
	if second.Base != first.ID {
		b.Fatalf("the second backup is not based on the first: %v", second.Warnings)
	}
	b.ReportMetric(100*float64(second.MovedBytes)/float64(first.StoredBytes), "%-of-bytes") // both compressed
	b.ReportMetric(100*node/node1, "%-of-processor-on-node")
	b.ReportMetric(100*here/here1, "%-of-processor-here")
}
