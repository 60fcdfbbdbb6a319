package overlay

import (
	"context"
	_ "embed"
	"errors"
	"fmt"
	"path"
	"strconv"
	"strings"
	"time"

	"github.com/livecd-sync/livecd-sync/internal/bmc"
)

var (
	//go:embed scripts/inside.sh
	insideScript string
	//go:embed scripts/nextroot-look.sh
	nextRootLookScript string
	//go:embed scripts/nextroot-begin.sh
	nextRootBeginScript string
	//go:embed scripts/nextroot-mount.sh
	nextRootMountScript string
	//go:embed scripts/nextroot-undo.sh
	nextRootUndoScript string
	//go:embed scripts/nextroot-switch.sh
	nextRootSwitchScript string
)

const (
	// nextRootAt is where systemd looks for the root of a soft reboot, and
	// softReboot the version that has it (systemd-soft-reboot.service(8)).
	nextRootAt = "/run/nextroot"
	softReboot = 254
	// nextRootDir begins the names of the directories that hold a next root's
	// upper and work dir, next to the running upper dir.
	nextRootDir = "livecd-sync-nextroot-"

	statusNoSoftReboot = 75

	undoWithin = 30 * time.Second
)

// nextRoot restores into a second upper dir, mounts that over the same layers of
// the image, compares it through the mount, and has systemd reboot into it. The
// running overlay is not changed, and nothing of this is left when it fails, unless
// the connection fails with it; the report then says so.
func (r *restoration) nextRoot(ctx context.Context) error {
	base, err := r.nextRootPlace(ctx)
	if err != nil {
		return err
	}
	if err := r.inDir(ctx, nextRootBeginScript, base); err != nil {
		return err
	}
	if err := r.prepareNextRoot(ctx, base); err != nil {
		undoing, done := context.WithTimeout(context.WithoutCancel(ctx), undoWithin)
		defer done()
		if undone := r.inDir(undoing, nextRootUndoScript, base); undone != nil {
			r.note("what was made of the next root is still on the node, not compared, and a soft reboot would go there: unmount %s, or restore again; the next restore of this kind removes it: %v", nextRootAt, undone)
		}
		return err
	}
	return r.switchRoot(ctx, base+"/rw")
}

func (r *restoration) prepareNextRoot(ctx context.Context, base string) error {
	if err := r.unpack(ctx, base+"/rw"); err != nil {
		return err
	}
	if r.extracted != nil {
		return r.extracted
	}
	if err := r.inDir(ctx, nextRootMountScript, r.nextRootOptions(base)); err != nil {
		return err
	}
	r.unmounted, r.walks = false, false
	r.within = func(c Command) Command {
		c.Args, c.Script = []string{r.running.BootID, nextRootAt, c.Script}, insideScript
		return c
	}
	if err := r.compare(ctx); err != nil {
		return err
	}
	if n := r.unlike; n > 0 { // nobody else writes there
		return &bmc.Error{
			Op: restoreOp, Kind: bmc.KindOverlay,
			Err:  fmt.Errorf("the next root differs from the backup in %d places, the first: %s", n, r.report.Differences[0]),
			Hint: "the node goes on as it was; restore it through the merged view, which is the default, and look at the differences",
		}
	}
	return nil
}

// nextRootOptions are those of the second overlay: its layers are the first's.
func (r *restoration) nextRootOptions(base string) string {
	comma := strings.NewReplacer(`\`, `\\`, `,`, `\,`)
	colon := strings.NewReplacer(`\`, `\\`, `,`, `\,`, `:`, `\:`)
	var layers []string
	for _, dir := range r.running.LowerDirs {
		layers = append(layers, colon.Replace(dir))
	}
	return "lowerdir=" + strings.Join(layers, ":") + ",upperdir=" + comma.Replace(base+"/rw") + ",workdir=" + comma.Replace(base+"/work")
}

// nextRootPlace checks all that a soft reboot needs, before anything is touched,
// and says where the second upper dir goes.
func (r *restoration) nextRootPlace(ctx context.Context) (string, error) {
	out := capture{limit: 16 << 20}
	err := r.remote.Run(ctx, Command{Script: nextRootLookScript, Args: []string{r.running.UpperDir}, Stdout: &out})
	if err != nil {
		return "", remoteError(restoreOp, err)
	}
	s := sections(out.String())
	refuse := func(kind bmc.Kind, format string, args ...any) (string, error) {
		return "", &bmc.Error{
			Op: restoreOp, Kind: kind, Err: fmt.Errorf(format, args...),
			Hint: "nothing was changed; leave --method out to restore through the merged view",
		}
	}
	namespaces := strings.Fields(s["namespaces"])
	parent, space, _ := strings.Cut(strings.TrimSuffix(s["place"], "\n"), "\n")
	switch version := systemdVersion(s["systemd"]); {
	case version == 0 || strings.TrimSpace(s["manager"]) == "":
		return refuse(bmc.KindUnsupported, "the node does not run systemd, which a soft reboot is done by")
	case version < softReboot:
		return refuse(bmc.KindUnsupported, "the node has systemd %d, and soft reboots are there from %d on", version, softReboot)
	case len(namespaces) == 2 && namespaces[0] != namespaces[1]:
		return refuse(bmc.KindUnsupported, "what the ssh user mounts is not seen by systemd: their mount namespaces differ")
	case parent == "" || parent[0] != '/':
		return refuse(bmc.KindOverlay, "the directory of the upper dir %s is not seen on the node", Printable(r.running.UpperDir))
	case freeBytes(space) < r.manifest.RawBytes:
		return refuse(bmc.KindOverlay, "%s has %d MiB left, and the backup needs %d MiB beside what runs", parent, freeBytes(space)>>20, r.manifest.RawBytes>>20+1)
	}
	if err := nextRootFree(s); err != nil {
		return "", err
	}
	// The running root may itself be the next root of an earlier restore.
	if strings.HasPrefix(path.Base(parent), nextRootDir) {
		running := path.Base(parent)
		if parent = path.Dir(parent); running == nextRootDir+"a" {
			return path.Join(parent, nextRootDir+"b"), nil
		}
	}
	return path.Join(parent, nextRootDir+"a"), nil
}

// nextRootFree refuses when another program prepares a soft reboot.
func nextRootFree(s map[string]string) error {
	mounted := ""
	for _, m := range parseMounts(s["mountinfo"]) {
		if m.point != nextRootAt {
			continue
		}
		mounted = m.fstype
		for _, o := range m.options() {
			if o.name == "upperdir" && strings.Contains(o.value, "/"+nextRootDir) {
				mounted = "ours"
			}
		}
	}
	held := strings.TrimSpace(s["nextroot"])
	if mounted == "ours" || mounted == "" && held == "" {
		return nil
	}
	return &bmc.Error{
		Op: restoreOp, Kind: bmc.KindOverlay, Err: errors.New(nextRootAt + " holds what this program did not put there"),
		Hint: "see on the node who prepares a soft reboot, and remove it; or leave --method out",
	}
}

// systemdVersion reads "systemd 254 (254.5-1)"; 0 for anything else.
func systemdVersion(text string) int {
	fields := strings.Fields(text)
	if len(fields) < 2 || fields[0] != "systemd" {
		return 0
	}
	digits, _, _ := strings.Cut(fields[1], ".")
	digits, _, _ = strings.Cut(digits, "~")
	n, err := strconv.Atoi(digits)
	if err != nil {
		return 0
	}
	return n
}

// freeBytes reads what stat -f wrote: blocks and their size.
func freeBytes(text string) int64 {
	var blocks, size int64
	if _, err := fmt.Sscan(text, &blocks, &size); err != nil {
		return 0
	}
	return blocks * size
}

// switchRoot has systemd reboot into the next root. The answer may be lost with
// the connection, which ends then.
func (r *restoration) switchRoot(ctx context.Context, upper string) error {
	err := r.remote.Run(ctx, Command{Script: nextRootSwitchScript, Args: []string{r.running.BootID, r.manifest.ID, upper}})
	exit, ended := errors.AsType[*ExitError](err)
	switch {
	case err == nil:
		r.note("the node reboots softly into the restored root, whose upper dir is %s; what ran ends", Printable(upper))
	case ended && exit.Status == statusNoSoftReboot:
		return &bmc.Error{
			Op: restoreOp, Kind: bmc.KindOverlay, Err: fmt.Errorf("systemd did not begin a soft reboot: %s", exit.Stderr),
			Hint: "the restored root is mounted on " + nextRootAt + ": systemctl soft-reboot on the node goes into it",
		}
	case ended || ctx.Err() != nil:
		return remoteError(restoreOp, err)
	default:
		r.note("the connection ended before systemd's answer to the soft reboot: see livecd-sync status for what the node runs")
	}
	r.note("the upper dir that ran until now, %s, stays until it is removed: it takes memory", Printable(r.running.UpperDir))
	return nil
}
