// Package library brings the site's images onto this machine and knows them by
// content: it digests files, and takes ISOs out of releases, each once.
//
// What it has found out lies in a directory of its own, which may be deleted
// whenever no node runs from an image in it: an entry for each image, and the ISOs
// that were taken out. An entry counts for as long as the file that it speaks of has
// the same size, inode and times; nothing is read again until then.
//
// A gzip stream cannot be entered in its middle. A run that was cut off while it
// took an ISO out therefore begins anew, and leaves nothing half: an ISO appears
// under its name when all of it is there, on the disk and checked. What is whole is
// not done again.
package library

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"path/filepath"
	"sync"

	"github.com/livecd-sync/livecd-sync/internal/bmc"
	"github.com/livecd-sync/livecd-sync/internal/media"
	"github.com/livecd-sync/livecd-sync/internal/site"
)

// A Library is safe for concurrent use, by several processes too: what two need at
// one time, one does, and the other waits for it.
type Library struct {
	// Dir is where it keeps things. Without it nothing is remembered beyond the
	// Library, and releases cannot be used.
	Dir   string
	Clock bmc.Clock
	// Client reads images from web servers; nil stands for one of media.NewClient's.
	Client *http.Client

	mu    sync.Mutex
	known map[string]entry // by key; what this process has read or written
}

// Doing is what is done with an image, in words that are followed by how far it is.
type Doing string

// What a Library does.
const (
	Extracting Doing = "taking the ISO out"
	Digesting  Doing = "computing the sha256"
	Verifying  Doing = "comparing the sha256"
	Waiting    Doing = "waiting for another livecd-sync that does it"
)

// A Progress is how far something is, in bytes of what is read for it. Total is 0
// where there is nothing to count.
type Progress struct {
	Doing       Doing
	Done, Total int64
}

// ErrNotRead says of an image that nothing is known of it, or of what lies there
// now: Local finds it out.
var ErrNotRead = errors.New("the image has not been read yet")

// Local brings an image onto this machine and digests it, as far as that was not
// done before. It tells progress how far it is, one call at a time; progress may be
// nil. Images that are on a web server are none of its: the error is of KindURL.
//
// Its errors are *bmc.Error, of KindMedia when the image or its release is at fault
// and of KindCancelled when ctx ended. They leave nothing half.
func (l *Library) Local(ctx context.Context, img site.Image, progress func(Progress)) (media.Local, error) {
	if img.File == "" && img.Release == "" {
		return media.Local{}, &bmc.Error{
			Op: "read image " + img.Name, Kind: bmc.KindURL, Err: errors.New("it is on a web server, and not on this machine"),
			Hint: fmt.Sprintf("write images.%s.file to have it served from here", img.Name),
		}
	}
	if e, ok := l.lookUp(img); ok {
		return l.local(img, e)
	}
	j := job{Library: l, img: img, key: keyOf(img), tell: progress}
	free, err := j.lock(ctx)
	if err != nil {
		return media.Local{}, err
	}
	defer free()
	if e, ok := l.lookUp(img); ok { // another one has done it meanwhile
		return l.local(img, e)
	}
	e, err := j.do(ctx)
	if err != nil {
		return media.Local{}, err
	}
	return l.local(img, e)
}

// Look returns what is known of an image without reading it. The error is
// ErrNotRead, or a *bmc.Error when it is known not to be what the site file says.
func (l *Library) Look(img site.Image) (media.Local, error) {
	e, ok := l.lookUp(img)
	if !ok {
		return media.Local{}, ErrNotRead
	}
	return l.local(img, e)
}

// Known is Look for whom it does not matter why.
func (l *Library) Known(img site.Image) (media.Local, bool) {
	loc, err := l.Look(img)
	return loc, err == nil
}

// local is what an entry says of an image.
func (l *Library) local(img site.Image, e entry) (media.Local, error) {
	if img.SHA256 != "" && img.SHA256 != e.SHA256 {
		return media.Local{}, otherDigest(img, "its sha256 is "+e.SHA256)
	}
	name := img.File
	if img.Release != "" {
		name = filepath.Join(l.Dir, e.ISO)
	}
	return media.Local{Name: img.Name, Path: name, Size: e.Size, SHA256: e.SHA256, Volume: e.Volume}, nil
}

func otherDigest(img site.Image, what string) error {
	return &bmc.Error{
		Op: op(img), Kind: bmc.KindMedia,
		Err:  fmt.Errorf("%s, and images.%s.sha256 says %s", what, img.Name, img.SHA256),
		Hint: "copy it again from where it was published; or, if the image was exchanged on purpose, write the new digest",
	}
}

// op is what errors say was done.
func op(img site.Image) string {
	switch {
	case img.Release != "":
		return "read release " + img.Release
	case img.File != "":
		return "read image " + img.File
	}
	return "read image " + img.URL
}

// A job is one image being read.
type job struct {
	*Library
	img  site.Image
	key  string
	tell func(Progress)
}

func (j *job) progress(p Progress) {
	if j.tell != nil {
		j.tell(p)
	}
}

func (j *job) do(ctx context.Context) (entry, error) {
	if j.img.Release != "" {
		return j.takeOut(ctx)
	}
	return j.digest(ctx)
}

func (j *job) fail(err error, hint string) error {
	return &bmc.Error{Op: op(j.img), Kind: bmc.KindMedia, Err: err, Hint: hint}
}

func (j *job) cancelled(err error) error {
	return &bmc.Error{Op: op(j.img), Kind: bmc.KindCancelled, Err: err, Hint: "run it again; it begins anew, and nothing of it was kept"}
}
