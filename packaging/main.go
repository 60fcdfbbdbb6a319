// Command packaging builds the deb and the rpm package from nfpm.yaml.
package main

import (
	"errors"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strings"

	"github.com/goreleaser/nfpm/v2"
	_ "github.com/goreleaser/nfpm/v2/deb"
	_ "github.com/goreleaser/nfpm/v2/rpm"
)

func main() {
	config := flag.String("config", "packaging/nfpm.yaml", "what goes into the packages")
	version := flag.String("version", "", "as git describe has it")
	arch := flag.String("arch", "amd64", "in Go's words")
	stage := flag.String("stage", "", "the directory with what was built for the packages")
	out := flag.String("out", ".", "the directory that the packages go into")
	flag.Parse()
	values := map[string]string{"VERSION": packageVersion(*version), "ARCH": *arch, "STAGE": *stage}
	var errs []error
	for _, format := range []string{"deb", "rpm"} {
		name, err := build(*config, format, *out, values)
		if err == nil {
			fmt.Println(name)
		}
		errs = append(errs, err)
	}
	if err := errors.Join(errs...); err != nil {
		fmt.Fprintln(os.Stderr, "packaging:", err)
		os.Exit(1)
	}
}

// packageVersion makes a version that both formats take: a hyphen has a meaning
// of its own in them, and what is no release sorts before every one.
func packageVersion(described string) string {
	v := strings.TrimPrefix(described, "v")
	if !regexp.MustCompile(`^[0-9]+\.[0-9]`).MatchString(v) {
		v = "0.0.0~" + v
	}
	return strings.ReplaceAll(v, "-", "+")
}

// build writes one package and returns its path.
func build(config, format, out string, values map[string]string) (name string, err error) {
	f, err := os.Open(config)
	if err != nil {
		return "", err
	}
	defer func() { _ = f.Close() }() // it was only read
	c, err := nfpm.ParseWithEnvMapping(f, func(key string) string { return values[key] })
	if err != nil {
		return "", fmt.Errorf("%s: %w", config, err)
	}
	packager, err := nfpm.Get(format)
	if err != nil {
		return "", err
	}
	info, err := c.Get(format)
	if err != nil {
		return "", err
	}
	info = nfpm.WithDefaults(info)
	name = filepath.Join(out, packager.ConventionalFileName(info))
	info.Target = name
	w, err := os.Create(name)
	if err != nil {
		return "", err
	}
	return name, errors.Join(packager.Package(info, w), w.Close())
}
