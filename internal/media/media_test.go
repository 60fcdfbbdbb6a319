package media_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/livecd-sync/livecd-sync/internal/bmc"
	"github.com/livecd-sync/livecd-sync/internal/media"
	"github.com/livecd-sync/livecd-sync/internal/media/isotest"
	"github.com/livecd-sync/livecd-sync/internal/site"
)

var pit = isotest.Image{
	VolumeID: "CRAY-PIT-1.7",
	Created:  time.Date(2026, 11, 23, 5, 0, 0, 0, time.FixedZone("CET", 3600)),
	Size:     80_000,
}

var pitVolume = site.Volume{ID: "CRAY-PIT-1.7", Created: "2026-11-23T05:00:00.00+01:00"}

func isoBytes(t testing.TB, img isotest.Image) []byte {
	t.Helper()
	var b bytes.Buffer
	if err := isotest.Write(&b, img); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

func sector16(iso []byte) []byte { return iso[media.DescriptorOffset:][:media.SectorSize] }

func TestParseVolume(t *testing.T) {
	zone := func(offset int) time.Time {
		return time.Date(2021, 2, 3, 4, 5, 6, 70*int(time.Millisecond), time.FixedZone("", offset))
	}
	for _, tc := range []struct {
		name string
		img  isotest.Image
		want site.Volume
	}{
		{"east of Greenwich", pit, pitVolume},
		{
			"west, with minutes",
			isotest.Image{VolumeID: "A B", Created: zone(-(3*3600 + 1800))},
			site.Volume{ID: "A B", Created: "2021-02-03T04:05:06.07-03:30"},
		},
		{"UTC", isotest.Image{VolumeID: "A", Created: zone(0)}, site.Volume{ID: "A", Created: "2021-02-03T04:05:06.07+00:00"}},
		{"no date", isotest.Image{VolumeID: "CDROM"}, site.Volume{ID: "CDROM"}},
		{"no name", isotest.Image{}, site.Volume{}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			got, err := media.ParseVolume(sector16(isoBytes(t, tc.img)))
			if err != nil || got != tc.want {
				t.Errorf("ParseVolume = %+v, %v, want %+v", got, err, tc.want)
			}
		})
	}
}

func TestParseVolumeRefusesOtherSectors(t *testing.T) {
	iso := isoBytes(t, pit)
	for name, b := range map[string][]byte{
		"nothing":        nil,
		"cut short":      sector16(iso)[:2047],
		"the terminator": iso[17*media.SectorSize:][:media.SectorSize],
		"zeros":          make([]byte, media.SectorSize),
	} {
		if v, err := media.ParseVolume(b); !errors.Is(err, media.ErrNotISO) || v != (site.Volume{}) {
			t.Errorf("%s: ParseVolume = %+v, %v, want ErrNotISO", name, v, err)
		}
	}
}

func FuzzParseVolume(f *testing.F) {
	f.Add(sector16(isoBytes(f, pit)))
	f.Add(sector16(isoBytes(f, isotest.Image{})))
	date := regexp.MustCompile(`^(\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d\d[+-]\d\d:\d\d)?$`)
	f.Fuzz(func(t *testing.T, b []byte) {
		v, err := media.ParseVolume(b)
		if err != nil && !errors.Is(err, media.ErrNotISO) {
			t.Errorf("error %v is not ErrNotISO", err)
		}
		if !date.MatchString(v.Created) {
			t.Errorf("Created = %q is not of the documented form", v.Created)
		}
		if len(v.ID) > 32 || strings.HasSuffix(v.ID, " ") {
			t.Errorf("ID = %q is too long or not trimmed", v.ID)
		}
	})
}

func TestIdentifyFile(t *testing.T) {
	iso := isoBytes(t, pit)
	name := filepath.Join(t.TempDir(), "pit.iso")
	if err := os.WriteFile(name, iso, 0o600); err != nil {
		t.Fatal(err)
	}
	got, err := media.Identify(t.Context(), nil, site.Image{Name: "pit", File: name})
	want := media.Identity{Volume: pitVolume, Size: int64(len(iso)), RangeRequests: true}
	if err != nil || got != want {
		t.Errorf("Identify = %+v, %v, want %+v", got, err, want)
	}
}

func TestIdentifyFileFailures(t *testing.T) {
	dir := t.TempDir()
	iso := isoBytes(t, pit)
	for name, content := range map[string][]byte{"short.iso": iso[:len(iso)-1], "text.iso": []byte("hello"), "zeros.iso": make([]byte, 99_999)} {
		if err := os.WriteFile(filepath.Join(dir, name), content, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	for name, want := range map[string]string{
		"short.iso": "truncated", "text.iso": "not an ISO 9660 image", "zeros.iso": "not an ISO 9660 image",
		"absent.iso": "no such file", ".": "directory",
	} {
		_, err := media.Identify(t.Context(), nil, site.Image{Name: "pit", File: filepath.Join(dir, name)})
		wantError(t, err, bmc.KindMedia, want)
	}
}

func TestIdentifyRelease(t *testing.T) {
	_, err := media.Identify(t.Context(), nil, site.Image{Name: "pit", Release: "/csm.tar.gz"})
	wantError(t, err, bmc.KindMedia, "not taken out of /csm.tar.gz yet")
}

func wantError(t *testing.T, err error, kind bmc.Kind, text string) {
	t.Helper()
	if err == nil {
		t.Fatalf("no error, want one of kind %q saying %q", kind, text)
	}
	if bmc.KindOf(err) != kind || !strings.Contains(err.Error(), text) || bmc.HintOf(err) == "" {
		t.Errorf("error %q of kind %q with hint %q, want kind %q, text %q and a hint",
			err, bmc.KindOf(err), bmc.HintOf(err), kind, text)
	}
}

func serve(t *testing.T, h http.HandlerFunc) string {
	t.Helper()
	srv := httptest.NewServer(h)
	t.Cleanup(srv.Close)
	return srv.URL + "/iso/pit.iso"
}

func content(iso []byte) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		http.ServeContent(w, r, "pit.iso", time.Time{}, bytes.NewReader(iso))
	}
}

func TestIdentifyURL(t *testing.T) {
	iso := isoBytes(t, pit)
	size := int64(len(iso))
	for _, tc := range []struct {
		name     string
		handler  http.HandlerFunc
		want     media.Identity
		requests int
	}{
		{"ranges", content(iso), media.Identity{Volume: pitVolume, Size: size, RangeRequests: true}, 1},
		{"ranges, size not told", unknownSize(iso), media.Identity{Volume: pitVolume, Size: -1, RangeRequests: true}, 2},
		{"no ranges", func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Length", fmt.Sprint(size))
			_, _ = w.Write(iso)
		}, media.Identity{Volume: pitVolume, Size: size}, 1},
		{"no ranges, size not told", func(w http.ResponseWriter, _ *http.Request) {
			w.(http.Flusher).Flush()
			_, _ = w.Write(iso)
		}, media.Identity{Volume: pitVolume, Size: -1}, 1},
	} {
		t.Run(tc.name, func(t *testing.T) {
			var requests int
			url := serve(t, func(w http.ResponseWriter, r *http.Request) { requests++; tc.handler(w, r) })
			got, err := media.Identify(t.Context(), nil, site.Image{Name: "pit", URL: url})
			if err != nil || got != tc.want || requests != tc.requests {
				t.Errorf("Identify = %+v, %v after %d requests, want %+v after %d", got, err, requests, tc.want, tc.requests)
			}
		})
	}
}

// unknownSize answers ranges as a server does that does not know how long the
// image is.
func unknownSize(iso []byte) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		var from, to int
		if _, err := fmt.Sscanf(r.Header.Get("Range"), "bytes=%d-%d", &from, &to); err != nil || to >= len(iso) {
			w.WriteHeader(http.StatusRequestedRangeNotSatisfiable)
			return
		}
		w.Header().Set("Content-Range", fmt.Sprintf("bytes %d-%d/*", from, to))
		w.WriteHeader(http.StatusPartialContent)
		_, _ = w.Write(iso[from : to+1])
	}
}

func TestIdentifyURLFailures(t *testing.T) {
	iso := isoBytes(t, pit)
	for _, tc := range []struct {
		name    string
		handler http.HandlerFunc
		text    string
	}{
		{"not there", http.NotFound, "404"},
		{"truncated", content(iso[:len(iso)-media.SectorSize]), "truncated"},
		{"truncated, size not told", unknownSize(iso[:len(iso)-media.SectorSize]), "truncated"},
		{"truncated before sector 16", content(iso[:10_000]), "not an ISO 9660 image"},
		{"a web page", func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, "<html>login</html>") }, "not an ISO 9660 image"},
		{"not an ISO", content(make([]byte, 99_999)), "not an ISO 9660 image"},
		{"moved", http.RedirectHandler("/elsewhere.iso", http.StatusFound).ServeHTTP, "redirects to"},
		{"protected", func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusUnauthorized) }, "401"},
		{"other bytes", func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Range", fmt.Sprintf("bytes 0-2047/%d", len(iso)))
			w.WriteHeader(http.StatusPartialContent)
			_, _ = w.Write(iso[:2048])
		}, "bytes from 32768 on were asked for"},
		{"no Content-Range", func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusPartialContent) }, "Content-Range"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			_, err := media.Identify(t.Context(), nil, site.Image{Name: "pit", URL: serve(t, tc.handler)})
			wantError(t, err, bmc.KindMedia, tc.text)
		})
	}
}

func TestIdentifyUnreachable(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	url := "http://user:hunter2@" + l.Addr().String() + "/iso/pit.iso"
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	_, err = media.Identify(t.Context(), nil, site.Image{Name: "pit", URL: url})
	wantError(t, err, bmc.KindUnreachable, "refused")
	if strings.Contains(err.Error(), "hunter2") {
		t.Errorf("error %q shows the URL's password", err)
	}
}

func TestIdentifyTimeout(t *testing.T) {
	url := serve(t, func(_ http.ResponseWriter, r *http.Request) { <-r.Context().Done() })
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
	defer cancel()
	_, err := media.Identify(ctx, nil, site.Image{Name: "pit", URL: url})
	wantError(t, err, bmc.KindTimeout, "did not answer in time")
}

func TestIdentifyCancelled(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	url := serve(t, func(_ http.ResponseWriter, r *http.Request) { cancel(); <-r.Context().Done() })
	_, err := media.Identify(ctx, nil, site.Image{Name: "pit", URL: url})
	wantError(t, err, bmc.KindCancelled, "cancel")
}

func TestIdentifyUntrustedCertificate(t *testing.T) {
	srv := httptest.NewUnstartedServer(http.NotFoundHandler())
	srv.Config.ErrorLog = nil
	srv.StartTLS()
	defer srv.Close()
	_, err := media.Identify(t.Context(), nil, site.Image{Name: "pit", URL: srv.URL + "/iso/pit.iso"})
	wantError(t, err, bmc.KindTLS, "certificate")
}
