package main

import (
	"testing"

	"github.com/livecd-sync/livecd-sync/internal/site"
)

func TestSupplyOf(t *testing.T) {
	sources := map[string]site.Source{
		"*.squashfs":             {URL: "http://host/dir/"},
		"/var/www/boot.squashfs": {URL: "http://host/one"},
		"var/www":                {Image: "/www/"},
		"opt/*.bin":              {Image: "opt.bin"},
		"/srv/big":               {File: t.TempDir()},
		"etc/single":             {File: "/nowhere/single"},
	}
	dir := sources["/srv/big"].File
	for name, want := range map[string]string{
		"/root/a.squashfs":       "http://host/dir/a.squashfs",
		"/var/www/boot.squashfs": "http://host/one",
		"/var/www/x/y":           "/www/x/y of the image",
		"/opt/a.bin":             "opt.bin of the image",
		"/srv/big/deep/file":     dir + "/deep/file",
		"/etc/single":            "/nowhere/single",
		"/etc/other":             "",
		"/opt/deep/a.bin":        "",
	} {
		got, ok := supplyOf(sources, name)
		if got.From != want || ok != (want != "") {
			t.Errorf("%s: %q (%v), want %q", name, got.From, ok, want)
		}
	}
}
