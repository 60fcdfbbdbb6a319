package bmc

import (
	"reflect"
	"strings"
	"testing"
)

// Every rule has words: a rule that is set adds a phrase.
func TestURLWords(t *testing.T) {
	none := strings.Join(URLRules{}.Words(nil), "; ")
	if none != "by http or https; no user, query or fragment" {
		t.Error(none)
	}
	for f := range reflect.TypeFor[URLRules]().Fields() {
		var r URLRules
		v := reflect.ValueOf(&r).Elem().FieldByIndex(f.Index)
		switch v.Kind() {
		case reflect.Bool:
			v.SetBool(true)
		case reflect.Int:
			v.SetInt(7)
		case reflect.String:
			v.SetString("a-z")
		default:
			v.Set(reflect.ValueOf([]string{"nfs"}))
		}
		if strings.Join(r.Words(nil), "; ") == none {
			t.Errorf("%s has no words", f.Name)
		}
	}
	r := URLRules{Schemes: []string{"http"}, DefaultPort: true, MinDirectories: 1, Path: "a-z", Endings: []string{".iso", ".img"}, MaxURL: 100, MaxName: 40, Address: true}
	want := "by https (by its own word); from port 80 (https: 443) only; the server as an IP address; in a directory, not at the server's root; " +
		"a path of a-z and / only; ending in .iso or .img; 100 characters at most; a name of 40 characters at most; no user, query or fragment"
	if got := strings.Join(r.Words([]string{"https"}), "; "); got != want {
		t.Errorf("got  %s\nwant %s", got, want)
	}
}
