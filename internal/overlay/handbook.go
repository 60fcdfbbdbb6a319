package overlay

import (
	_ "embed"
	"fmt"
	"strings"
)

//go:embed RESTORE.txt
var restoreTemplate string

// restoreText is what a person needs who has the backup and not this program.
func restoreText(m Manifest) string {
	return strings.NewReplacer(
		"@NODE@", m.Node, "@ID@", m.ID, "@SITE@", m.Site, "@UPPER@", Printable(m.UpperDir),
		"@IMAGE@", imageWords(m), "@KERNEL@", Printable(m.Kernel), "@ENTRIES@", fmt.Sprint(m.Counts.Entries),
	).Replace(restoreTemplate)
}

func imageWords(m Manifest) string {
	words := m.Image
	if words == "" {
		words = "an image that is not in the site file"
	}
	if m.Volume.ID != "" {
		words += fmt.Sprintf(" (volume %q, created %s)", m.Volume.ID, m.Volume.Created)
	}
	return Printable(words)
}
