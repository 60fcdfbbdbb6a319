package siteload_test

import (
	"fmt"
	"strings"
	"testing"

	"github.com/livecd-sync/livecd-sync/internal/site/siteload"
)

// explicitNodes writes a site file of n nodes, each with an entry, an address, a
// certificate and a port of its own.
func explicitNodes(n int) []byte {
	var b strings.Builder
	b.WriteString(`apiVersion: livecd-sync/v1
site: big
images:
  pit-1.6: {url: "http://10.1.1.1/iso/pit16.iso"}
stores:
  admin: {url: "file:///var/lib/livecd-sync/backups"}
defaults:
  bmc: {username: root, password: {env: BMC_PASSWORD}}
  ssh: {user: root, identity: /etc/livecd-sync/id_ed25519, hostKey: any}
  image: pit-1.6
  overlay: {store: admin, keep: 5, exclude: ["*.squashfs"], restore: latest}
nodes:
`)
	for i := range n {
		fmt.Fprintf(&b, `  x%dc%ds%db0n0:
    bmc:
      address: x%dc%ds%db0
      tls: {fingerprint: "sha256:%064x"}
    ssh:
      address: 10.%d.%d.%d
      port: %d
    groups: [compute, rack%d]
`, 1000+i/512, i/64%8, i%64, 1000+i/512, i/64%8, i%64, i, i/62500, i/250%250, 1+i%250, 20000+i, i/64)
	}
	return []byte(b.String())
}

func BenchmarkParse(b *testing.B) {
	for _, n := range []int{10, 10_000} {
		data := explicitNodes(n)
		b.Run(fmt.Sprintf("explicit=%d", n), func(b *testing.B) {
			b.SetBytes(int64(len(data)))
			b.ReportAllocs()
			for b.Loop() {
				s, err := siteload.Parse("site.yaml", data)
				if err != nil || len(s.Nodes) != n {
					b.Fatal(err)
				}
			}
		})
	}
}

// BenchmarkParseApart is the worst case: no two nodes have the same shape, or
// each node has something wrong with it.
func BenchmarkParseApart(b *testing.B) {
	const n = 2000
	var apart, faulty strings.Builder
	apart.WriteString("apiVersion: livecd-sync/v1\nsite: apart\nnodes:\n")
	faulty.WriteString("apiVersion: livecd-sync/v1\nsite: faulty\nnodes:\n")
	for i := range n {
		fmt.Fprintf(&apart, "  n%d: {bmc: {address: b%d}, groups: [%s]}\n", i, i, strings.Repeat("g, ", i%50)+strings.Repeat("h1, ", i/50))
		fmt.Fprintf(&faulty, "  n%d: {bmc: {adrss: b%d, auth: %d}, overlay: {keep: 0}}\n", i, i, i)
	}
	for name, data := range map[string]string{"shapes": apart.String(), "faults": faulty.String()} {
		b.Run(fmt.Sprintf("%s=%d", name, n), func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				if s, err := siteload.Parse("site.yaml", []byte(data)); (err == nil) != (s != nil) {
					b.Fatal(err)
				}
			}
		})
	}
}
