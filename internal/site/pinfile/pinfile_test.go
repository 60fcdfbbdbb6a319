package pinfile

import (
	"strings"
	"testing"
)

const (
	one   = "sha256:1111111111111111111111111111111111111111111111111111111111111111"
	two   = "sha256:2222222222222222222222222222222222222222222222222222222222222222"
	three = "sha256:3333333333333333333333333333333333333333333333333333333333333333"
)

func TestSetKeepsTheRest(t *testing.T) {
	colons := "sha256:" + strings.TrimSuffix(strings.Repeat("AB:", 32), ":")
	f, err := Parse([]byte("# rack 3\n\nx3000c0s3b0 " + one + "  # replaced in May\n\tX3000c0s4b0:8443   " + colons + "\nx3000c0s5b0:443 " + two))
	if err != nil {
		t.Fatal(err)
	}
	for bmc, want := range map[string]string{
		"x3000c0s3b0": one, "x3000c0s4b0:8443": "sha256:" + strings.Repeat("ab", 32), "x3000c0s5b0": two, "x3000c0s4b0": "", "": "",
	} {
		if got := f.Pin(bmc); got != want {
			t.Errorf("%s: %q, want %q", bmc, got, want)
		}
	}
	f.Set("x3000c0s3b0", three)
	f.Set("x3000c0s9b0", one)
	f.Set("x3000c0s9b0", two)
	want := "# rack 3\n\nx3000c0s3b0 " + three + "  # replaced in May\n\tX3000c0s4b0:8443   " + colons + "\nx3000c0s5b0:443 " + two + "\nx3000c0s9b0 " + two + "\n"
	if got := string(f.Bytes()); got != want {
		t.Errorf("got\n%s\nwant\n%s", got, want)
	}
	again, err := Parse(f.Bytes())
	if err != nil || len(again.Pins()) != 4 || again.Pins()["x3000c0s9b0"] != two {
		t.Errorf("%v %v", again.Pins(), err)
	}
}

func TestBadLines(t *testing.T) {
	for text, want := range map[string]string{
		"x3000c0s3b0\n":                          "line 1",
		"# fine\nx3000c0s3b0 sha256:beef\n":      "line 2",
		"a " + one + " b\n":                      "line 1",
		"a " + one + "\nA:443 " + two + "\n":     "line 2: a has a fingerprint already, in line 1",
		strings.Repeat("#", MaxSize+1):           "larger",
		"\x00\x01":                               "line 1",
		"x3000c0s3b0 " + one[:len(one)-1] + "g ": "line 1",
	} {
		if _, err := Parse([]byte(text)); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%.40q: %v, want %s", text, err, want)
		}
	}
}

func TestName(t *testing.T) {
	for in, want := range map[string]string{
		"https://X3000c0s3b0": "x3000c0s3b0", "https://b:443": "b", "https://b:8443": "b:8443",
		"https://[2001:db8::1]:443": "[2001:db8::1]", "https://[2001:db8::1]": "[2001:db8::1]", "::": "",
	} {
		if got := Name(in); got != want {
			t.Errorf("%s: %q, want %q", in, got, want)
		}
	}
}

func FuzzParse(f *testing.F) {
	f.Add([]byte("# a\nb " + one + "\n"))
	f.Fuzz(func(t *testing.T, data []byte) {
		file, err := Parse(data)
		if err != nil {
			return
		}
		file.Set("x", one)
		again, err := Parse(file.Bytes())
		if err != nil || again.Pin("x") != one || len(again.Pins()) != len(file.Pins()) {
			t.Errorf("%q does not come back: %v", data, err)
		}
	})
}
