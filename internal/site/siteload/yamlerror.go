package siteload

import (
	"bytes"
	"regexp"
	"strconv"
	"strings"
)

var yamlLine = regexp.MustCompile(`^yaml: (?:line ([0-9]+): )?(?s:(.*))$`)

// yamlProblems says in plain words what the YAML parser complains of, by what
// its message contains.
var yamlProblems = []struct{ contains, message, hint string }{
	{"cannot start any token", "a tab or a character with a meaning in YAML begins this text", "indent with blanks, and put text that begins with @, %, ` or * in quotes"},
	{"tab character", "a tab is used for indentation", "indent with blanks"},
	{"mapping values are not allowed", "a second \": \" on one line, or a key that is indented more than the one before it", "put text with \": \" in quotes, and indent keys of one mapping alike"},
	{"could not find expected ':'", "a key without a colon", "write KEY: VALUE, and put text of several words in quotes"},
	{"did not find expected key", "a key was expected here", "indent keys of one mapping alike, and close quotes, brackets and braces"},
	{"did not find expected ',' or", "a bracket or brace that is opened here is not closed, or a comma is missing", "write , between items and ] or } at the end, and put text with brackets or braces in quotes"},
	{"did not find expected '-' indicator", "an item of a list was expected here", "begin each item with - at the same indentation"},
	{"did not find expected node content", "a value was expected here", "put text that begins with ], }, or a comma in quotes"},
	{"unexpected end of stream", "a quote that is opened here is not closed", "write the closing quote"},
	{"unknown escape character", "a backslash in double quotes with no meaning in YAML", "use single quotes around text with backslashes"},
	{"unknown anchor", "an alias of something that has no name in this file", "put text that begins with * in quotes"},
	{"block sequence entries are not allowed", "a - where no list can begin", "write the list on a line of its own, or put the text in quotes"},
	{"exceeded max depth", "too many levels", "write it flatter: a site file needs no more than 6 levels"},
	{"document indicator", "--- or ... inside of a text", "keep one site in one file, and indent text of several lines"},
	{"incompatible YAML document", "a %YAML directive for another version than 1.1", "remove the line that begins with %YAML"},
	{"document start", "text after the end of the document", "indent keys of one mapping alike, and keep one site in one file"},
}

// failYAML reports what the YAML parser says. The parser knows the line at most;
// the first character on it is the column.
func (f *file) failYAML(data []byte, err error) {
	m := yamlLine.FindStringSubmatch(err.Error())
	if m == nil {
		m = []string{"", "", err.Error()}
	}
	line, convErr := strconv.Atoi(m[1])
	if convErr != nil || line < 1 {
		line = 1
	}
	message, hint := "this is not YAML: "+strings.TrimSpace(m[2]), "mend the line, or the one before it"
	for _, p := range yamlProblems {
		if strings.Contains(m[2], p.contains) {
			message, hint = "this is not YAML: "+p.message, p.hint
			break
		}
	}
	f.failAt(int32(line), firstColumn(data, line), "", message, hint)
}

// firstColumn is the column of the first character of a line that is no blank.
func firstColumn(data []byte, line int) int32 {
	for range line - 1 {
		i := bytes.IndexByte(data, '\n')
		if i < 0 {
			return 1
		}
		data = data[i+1:]
	}
	n := len(data) - len(bytes.TrimLeft(data, " \t"))
	return int32(n) + 1
}
