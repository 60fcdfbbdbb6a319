package siteload

import (
	"bytes"
	"regexp"
	"strconv"
	"strings"
	"unicode/utf8"
)

var yamlLine = regexp.MustCompile(`^yaml: (?:line ([0-9]+): )?(?s:(.*))$`)

// yamlProblem says in plain words what the YAML parser complains of.
type yamlProblem struct {
	contains      string // the parser's words
	message, hint string
	// before tells that the parser names the line before the one it means: it
	// counts from 0 in what it finds after splitting the text into tokens.
	before bool
}

var yamlProblems = []yamlProblem{
	{"cannot start any token", "a tab or a character with a meaning in YAML begins this text", "indent with blanks, and put text that begins with @, %, ` or * in quotes", false},
	{"tab character", "a tab is used for indentation", "indent with blanks", false},
	{"mapping values are not allowed", "a second \": \" on one line, or a key that is indented more than the one before it", "put text with \": \" in quotes, and indent keys of one mapping alike", false},
	{"could not find expected ':'", "a key without a colon", "write KEY: VALUE, and put text of several words in quotes", false},
	{"did not find expected key", "a key was expected here", "indent keys of one mapping alike, and close quotes, brackets and braces", true},
	{"did not find expected ',' or", "a bracket or brace that is opened here is not closed, or a comma is missing", "write , between items and ] or } at the end, and put text with brackets or braces in quotes", true},
	{"did not find expected '-' indicator", "an item of a list was expected here", "begin each item with - at the same indentation", true},
	{"did not find expected node content", "a value was expected here", "put text that begins with ], }, or a comma in quotes", true},
	{"unexpected end of stream", "a quote that is opened here is not closed", "write the closing quote", false},
	{"alphabetic or numeric character", "a & or * with no name after it", "put text that begins with & or * in quotes", false},
	{"unknown escape character", "a backslash in double quotes with no meaning in YAML", "use single quotes around text with backslashes", false},
	{"unknown anchor", "an alias of something that has no name in this file", "put text that begins with * in quotes", false},
	{"block sequence entries are not allowed", "a - where no list can begin", "write the list on a line of its own, or put the text in quotes", false},
	{"exceeded max depth", "too many levels", "write it flatter: a site file needs no more than 6 levels", false},
	{"document indicator", "--- or ... inside of a text", "keep one site in one file, and indent text of several lines", false},
	{"incompatible YAML document", "a %YAML directive for another version than 1.1", "remove the line that begins with %YAML", true},
	{"document start", "text after the end of the document", "indent keys of one mapping alike, and keep one site in one file", true},
}

// failYAML reports what the YAML parser says. The parser knows the line at most;
// the first character on it is the column.
func (f *file) failYAML(data []byte, err error) {
	said, line := err.Error(), 0
	if m := yamlLine.FindStringSubmatch(said); m != nil {
		line, _ = strconv.Atoi(m[1]) // 0 when it does not say
		said = m[2]
	}
	told := yamlProblem{message: strings.TrimSpace(said), hint: "mend the line, or the one before it"}
	for _, p := range yamlProblems {
		if strings.Contains(said, p.contains) {
			told = p
			break
		}
	}
	if told.before {
		line++
	}
	column := firstColumn(data, line)
	if m := unknownAnchor.FindStringSubmatch(said); m != nil {
		line, column = firstAlias(data, m[1])
	}
	f.failAt(int32(max(line, 1)), column, "", "this is not YAML: "+told.message, told.hint)
}

var unknownAnchor = regexp.MustCompile(`unknown anchor '(.*)' referenced`)

// firstAlias finds the first use of an alias, of which the parser does not say
// where it is.
func firstAlias(data []byte, name string) (line int, column int32) {
	i := max(bytes.Index(data, []byte("*"+name)), 0)
	before := data[:i]
	start := bytes.LastIndexByte(before, '\n') + 1
	return bytes.Count(before, []byte("\n")) + 1, int32(utf8.RuneCount(before[start:])) + 1
}

// firstColumn is the column of the first character of a line that is no blank.
func firstColumn(data []byte, line int) int32 {
	for range max(line, 1) - 1 {
		i := bytes.IndexByte(data, '\n')
		if i < 0 {
			return 1
		}
		data = data[i+1:]
	}
	n := len(data) - len(bytes.TrimLeft(data, " \t"))
	return int32(n) + 1
}
