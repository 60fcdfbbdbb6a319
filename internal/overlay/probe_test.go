package overlay

import (
	"context"
	"encoding/hex"
	"fmt"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

const bootID = "8283fe11-7f7c-4a38-882a-a9f6b13f1b47"

// probed is the output of probe.sh with the given sections.
func probed(sections map[string]string) string {
	text := "== boot-id\n" + bootID + "\n== uid\n0\n== tar\ntar (GNU tar) 1.34\nCopyright\n== parameters\nmetacopy N\nredirect_dir N\nindex N\n"
	for name, body := range sections {
		text += "== " + name + "\n" + body + "\n"
	}
	return text
}

func TestProbeMountinfo(t *testing.T) {
	const squashfs = "40 30 7:0 / /run/rootfsbase ro,relatime - squashfs /dev/loop0 ro\n"
	off := Options{Metacopy: "off", RedirectDir: "off", Index: "off"}
	for name, test := range map[string]struct {
		mountinfo string
		want      Running
	}{
		"kiwi before 9.21.18": {
			squashfs + `30 1 0:25 / / rw,relatime shared:1 - overlay LiveOS_rootfs rw,lowerdir=/run/rootfsbase,upperdir=/run/overlayfs/rw,workdir=/run/overlayfs/work` + "\n",
			Running{Live: true, UpperDir: "/run/overlayfs/rw", WorkDir: "/run/overlayfs/work", LowerDirs: []string{"/run/rootfsbase"}, Options: off},
		},
		"kiwi": {
			squashfs + `30 1 0:25 / / rw,relatime shared:1 - overlay LiveOS_rootfs rw,lowerdir=/run/overlay/rootfsbase,upperdir=/run/overlay/overlayfs/rw,workdir=/run/overlay/overlayfs/work,xino=off,index=on,metacopy=on,redirect_dir=follow` + "\n",
			Running{Live: true, UpperDir: "/run/overlay/overlayfs/rw", WorkDir: "/run/overlay/overlayfs/work", LowerDirs: []string{"/run/overlay/rootfsbase"}, Options: Options{Metacopy: "on", RedirectDir: "follow", Index: "on"}},
		},
		"dracut": {
			squashfs + `30 1 0:25 / / rw,relatime - overlay LiveOS_rootfs rw,lowerdir=/run/rootfsbase,upperdir=/run/overlayfs,workdir=/run/ovlwork` + "\n",
			Running{Live: true, UpperDir: "/run/overlayfs", WorkDir: "/run/ovlwork", LowerDirs: []string{"/run/rootfsbase"}, Options: off},
		},
		"installed": {"27 1 254:0 / / rw,relatime - ext4 /dev/vda rw\n", Running{}},
		"container": {
			"27 1 0:25 / / rw - overlay overlay rw,lowerdir=/l1:/l2,upperdir=/u,workdir=/w\n",
			Running{UpperDir: "/u", WorkDir: "/w", LowerDirs: []string{"/l1", "/l2"}, Options: off},
		},
		"escapes": {
			squashfs + `30 1 0:25 / / rw - overlay o rw,lowerdir=/a\134:b:/c\040d,upperdir=/up\054\040per,workdir=/w\011k` + "\n",
			Running{Live: true, UpperDir: "/up, per", WorkDir: "/w\tk", LowerDirs: []string{"/a:b", "/c d"}, Options: off},
		},
		"since Linux 6.7": {
			squashfs + "30 1 0:25 / / rw - overlay o rw,lowerdir+=/a,lowerdir+=/b,datadir+=/c,upperdir=/u,workdir=/w\n",
			Running{Live: true, UpperDir: "/u", WorkDir: "/w", LowerDirs: []string{"/a", "/b", "/c"}, Options: off},
		},
		"mounted over": {
			squashfs + "29 1 0:1 / / rw - rootfs rootfs rw\n30 1 0:25 / / rw - overlay o rw,lowerdir=/a,upperdir=/u,workdir=/w\n",
			Running{Live: true, UpperDir: "/u", WorkDir: "/w", LowerDirs: []string{"/a"}, Options: off},
		},
		"damaged": {"nonsense\n30 1\n - overlay\n\n30 1 0:25 / / rw - overlay\n", Running{}},
	} {
		t.Run(name, func(t *testing.T) {
			got := parseProbe(probed(map[string]string{"mountinfo": test.mountinfo}))
			want := test.want
			want.BootID, want.Root, want.Tar = bootID, true, "tar (GNU tar) 1.34"
			if diff := cmp.Diff(want, got); diff != "" {
				t.Error(diff)
			}
		})
	}
}

func pvd(id string) string {
	b := make([]byte, sectorBytes)
	copy(b, pvdSignature)
	copy(b[volumeIDAt:], fmt.Sprintf("%-32s", id))
	return spaced(hex.EncodeToString(b))
}

// spaced writes hex as od does.
func spaced(s string) string {
	var b strings.Builder
	for i := 0; i < len(s); i += 2 {
		b.WriteString(" " + s[i:i+2])
		if i%32 == 30 {
			b.WriteByte('\n')
		}
	}
	return b.String()
}

func TestProbeMedium(t *testing.T) {
	for name, test := range map[string]struct {
		cmdline, medium string
		want            Medium
		found           bool
	}{
		"mounted":             {"quiet", "mounted /dev/sr0\n" + pvd("PIT"), Medium{"/dev/sr0", true}, true},
		"same label":          {"root=live:CDLABEL=PIT", "drive /dev/sr0\n" + pvd("PIT"), Medium{"/dev/sr0", false}, true},
		"another label":       {"root=live:CDLABEL=PIT", "mounted /dev/sr0\n" + pvd("OTHER"), Medium{}, false},
		"an encoded label":    {`root=live:LABEL=PIT\x201`, "mounted /dev/sr0\n" + pvd("PIT 1"), Medium{"/dev/sr0", true}, true},
		"a truncated label":   {"root=live:CDLABEL=PRE-INSTALL-TOOL", "mounted /dev/sr0\n" + pvd("PRE-INSTALL-TOOLKIT"), Medium{"/dev/sr0", true}, true},
		"no descriptor":       {"", "drive /dev/sr0\n" + spaced(strings.Repeat("00", sectorBytes)), Medium{}, false},
		"part of one":         {"", "drive /dev/sr0\n" + pvd("PIT")[:200], Medium{}, false},
		"none":                {"", "", Medium{}, false},
		"not even hex digits": {"", "drive /dev/sr0\nzz", Medium{}, false},
	} {
		t.Run(name, func(t *testing.T) {
			got := parseProbe(probed(map[string]string{"cmdline": test.cmdline, "medium": test.medium}))
			if got.Medium != test.want || (got.PVD != nil) != test.found {
				t.Errorf("got %+v, PVD %v", got.Medium, got.PVD != nil)
			}
		})
	}
}

func TestProbeMarks(t *testing.T) {
	const root = "30 1 0:25 / / rw - overlay o rw,lowerdir=/a,upperdir=/u\\040v,workdir=/w\n"
	const id, other = "20261123T050000Z", "20261124T050000Z-2"
	for _, test := range []struct{ restored, restoring, holds, half string }{
		{id + " " + bootID, "", id, ""},
		{id + " another-boot", "", "", ""},
		{"../../etc/passwd " + bootID, "", "", ""},
		{"", "", "", ""},
		{other + " " + bootID + " /u v", "", other, ""},
		{other + " " + bootID + " /before-a-soft-reboot", "", "", ""},
		{"archive-0123456789abcdef " + bootID + " /u v", "", "archive-0123456789abcdef", ""},
		{"", id + " " + bootID + " /u v", "", id},
		{id + " " + bootID, other + " " + bootID + " /u v", "", other},
		{id + " " + bootID, id + " " + bootID + " /u v", "", id},
		{id + " " + bootID, other + " another-boot /u v", id, ""},
		{id + " " + bootID, other + " " + bootID + " /before-a-soft-reboot", id, ""},
		{id + " " + bootID, "\x00\xff " + bootID, id, ""},
	} {
		got := parseProbe(probed(map[string]string{"mountinfo": root, "restored": test.restored, "restoring": test.restoring}))
		if got.Restored.ID != test.holds || got.Restoring.ID != test.half || (got.Whole() == nil) != (test.half == "") {
			t.Errorf("%q, %q: holds %q, receives %q, %v", test.restored, test.restoring, got.Restored.ID, got.Restoring.ID, got.Whole())
		}
	}
}

// remoteFunc is a Remote made of a function.
type remoteFunc func(ctx context.Context, c Command) error

// Run calls the function.
func (f remoteFunc) Run(ctx context.Context, c Command) error { return f(ctx, c) }

func TestProbeRefusesFloods(t *testing.T) {
	flood := remoteFunc(func(_ context.Context, c Command) error {
		block := make([]byte, 1<<20)
		for range 5 {
			if _, err := c.Stdout.Write(block); err != nil {
				return err
			}
		}
		return nil
	})
	if _, err := Probe(t.Context(), flood); err == nil || !strings.Contains(err.Error(), "4 MiB") {
		t.Error(err)
	}
	silent := remoteFunc(func(context.Context, Command) error { return nil })
	if _, err := Probe(t.Context(), silent); err == nil {
		t.Error("a node that says nothing was taken for one")
	}
}
