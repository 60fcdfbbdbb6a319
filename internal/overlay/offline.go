package overlay

import (
	"context"
	_ "embed"
	"errors"
	"fmt"
	"path"
	"strconv"
	"strings"

	"github.com/livecd-sync/livecd-sync/internal/bmc"
)

var (
	//go:embed scripts/below.sh
	belowScript string
	//go:embed scripts/unpack.sh
	unpackScript string
	//go:embed scripts/offline-look.sh
	offlineLookScript string
	//go:embed scripts/offline-begin.sh
	offlineBeginScript string
	//go:embed scripts/offline-end.sh
	offlineEndScript string
)

// The exit statuses of the scripts that work on a directory of the node.
const (
	statusNoDir   = 73
	statusNotOurs = 74
)

// offline restores into a directory that is to be an upper dir later: everything
// as it is in the archive, into an empty directory, compared, and only then under
// its name. A restore that was cut off leaves a mark in it, and is begun anew.
func (r *restoration) offline(ctx context.Context, dir string) error {
	target, err := r.offlineTarget(ctx, dir)
	if err != nil {
		return err
	}
	part := target.dir
	if target.kind == "absent" {
		part += ".livecd-sync"
	}
	if target.kind == "cut-off" {
		r.note("a restore into %s had been cut off; what it left was removed", Printable(dir))
	}
	r.begun = true
	if err := r.inDir(ctx, offlineBeginScript, part, r.manifest.ID); err != nil {
		return err
	}
	if err := r.unpack(ctx, part); err != nil {
		return err
	}
	if err := r.compare(ctx); err != nil {
		return err
	}
	if r.extracted != nil {
		return r.extracted
	}
	return r.inDir(ctx, offlineEndScript, part, target.dir)
}

// unpack extracts everything below a directory of the node.
func (r *restoration) unpack(ctx context.Context, dir string) error {
	r.unmounted, r.walks = true, r.hasProgram()
	r.within = func(c Command) Command {
		c.Args, c.Script = []string{r.running.BootID, dir, c.Script}, belowScript
		return c
	}
	return r.extract(ctx, unpackScript, func(member) bool { return true })
}

// inDir runs a script of this boot on directories.
func (r *restoration) inDir(ctx context.Context, script string, args ...string) error {
	err := r.remote.Run(ctx, Command{Script: script, Args: append([]string{r.running.BootID}, args...)})
	exit, ok := errors.AsType[*ExitError](err)
	if !ok || (exit.Status != statusNoDir && exit.Status != statusNotOurs) {
		return remoteErrorOrNil(err)
	}
	e := &bmc.Error{Op: restoreOp, Kind: bmc.KindOverlay}
	if exit.Status == statusNotOurs {
		e.Err, e.Hint = fmt.Errorf("%s is in use by something else meanwhile", Printable(args[0])), "name a directory that is empty or not there"
	} else {
		e.Err, e.Hint = fmt.Errorf("%s cannot be written: %s", Printable(args[0]), exit.Stderr), "log in by hand and see what is wrong with it"
	}
	return e
}

// A target is what a directory of the node is before a restore into it.
type target struct {
	kind   string // see offline-look.sh
	dir    string // its path without symbolic links
	fstype string
	free   int64
	lies   map[string]string // DEVICE:INODE of it and what it lies in, and their paths
	layers []string          // DEVICE:INODE PATH of the layers of mounted overlays
}

// offlineTarget looks at the directory and refuses what must not be written to.
func (r *restoration) offlineTarget(ctx context.Context, dir string) (target, error) {
	refuse := func(format string, args ...any) (target, error) {
		return target{}, &bmc.Error{
			Op: restoreOp, Kind: bmc.KindOverlay, Err: fmt.Errorf(format, args...),
			Hint: "nothing was changed; name a directory on the node that is empty or not there, on a file system that is to hold the upper dir",
		}
	}
	if !path.IsAbs(dir) || path.Clean(dir) != dir || dir == "/" || strings.ContainsRune(dir, 0) {
		return refuse("%q is not the absolute path of a directory", dir)
	}
	layers, err := r.layers(ctx)
	if err != nil {
		return target{}, err
	}
	t, err := r.lookAt(ctx, dir, layers)
	if err != nil {
		return target{}, err
	}
	for _, layer := range t.layers {
		id, name, _ := strings.Cut(layer, " ")
		if _, in := t.lies[id]; in {
			return refuse("%s is in the %s, which is mounted", dir, layers[name])
		}
	}
	switch {
	case t.kind == "full":
		return refuse("%s is not empty, and no restore was cut off in it", dir)
	case strings.HasPrefix(t.kind, "part-"):
		return refuse("%s.livecd-sync is there and no restore's, which would be made there first", dir)
	case t.kind == "noparent":
		return refuse("the directory that %s is to be made in is not there", dir)
	case t.kind != "absent" && t.kind != "empty" && t.kind != "cut-off":
		return refuse("%s is not a directory", dir)
	case t.fstype == "overlayfs":
		return refuse("%s is itself on an overlay, which cannot hold an upper dir", dir)
	case t.free < r.manifest.RawBytes:
		return refuse("%s has %d MiB left, and the backup needs %d MiB", dir, t.free>>20, r.manifest.RawBytes>>20+1)
	}
	return t, nil
}

// layers names the directories that the overlays of the node are mounted from.
func (r *restoration) layers(ctx context.Context) (map[string]string, error) {
	text := capture{limit: 16 << 20}
	if err := r.remote.Run(ctx, Command{Script: "cat /proc/self/mountinfo", Stdout: &text}); err != nil {
		return nil, remoteError(restoreOp, err)
	}
	layers := make(map[string]string)
	for _, m := range parseMounts(text.String()) {
		if m.fstype != "overlay" {
			continue
		}
		for _, o := range m.options() {
			dirs := []string{layer(o.value)}
			var kind string
			switch o.name {
			case "upperdir":
				kind = "upper dir"
			case "workdir":
				kind = "work dir"
			case "lowerdir":
				dirs, kind = splitLayers(o.value), "lower layer"
			case "lowerdir+", "datadir+":
				kind = "lower layer"
			default:
				continue
			}
			for _, dir := range dirs {
				if layers[dir] != "" {
					continue // mounted in several places; the first is known best
				}
				layers[dir] = fmt.Sprintf("%s %s of the overlay on %s", kind, Printable(dir), Printable(m.point))
			}
		}
	}
	return layers, nil
}

func (r *restoration) lookAt(ctx context.Context, dir string, layers map[string]string) (target, error) {
	var names strings.Builder
	for name := range layers {
		names.WriteString(name + "\x00")
	}
	out := capture{limit: 16 << 20}
	err := r.remote.Run(ctx, Command{Script: offlineLookScript, Args: []string{dir}, Stdin: strings.NewReader(names.String()), Stdout: &out})
	if err != nil {
		return target{}, remoteError(restoreOp, err)
	}
	before, after, _ := strings.Cut(out.String(), "\x00\x00")
	records := strings.Split(before, "\x00")
	t := target{kind: records[0], dir: dir, lies: make(map[string]string), layers: strings.Split(after, "\x00")}
	if len(records) < 4 {
		return t, nil
	}
	t.dir = records[1]
	if strings.HasSuffix(t.kind, "absent") {
		t.dir = path.Join(t.dir, path.Base(dir))
	}
	fields := strings.SplitN(records[2], " ", 3)
	if len(fields) == 3 {
		blocks, _ := strconv.ParseInt(fields[0], 10, 64)
		size, _ := strconv.ParseInt(fields[1], 10, 64)
		t.free, t.fstype = blocks*size, fields[2]
	}
	for _, record := range records[3:] {
		id, name, _ := strings.Cut(record, " ")
		t.lies[id] = name
	}
	return t, nil
}
