package redfish_test

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/livecd-sync/livecd-sync/internal/bmc"
	"github.com/livecd-sync/livecd-sync/internal/bmc/bmcsim"
)

const pageHead = `# BMCs

What is known of each family of BMCs, what livecd-sync does with it, and what it refuses. This page is made of the rows of
` + "`schema/profiles.cue`" + ` and of what the conformance suite finds (` + "`make docs`" + `); a test fails while it is stale.

What a BMC says of itself goes before its row: its links, the slots it lists, the values it allows, the words of its refusals.
` + "`livecd-sync doctor`" + ` shows which row a BMC has, ` + "`bmc.profile`" + ` of the site file names another one, and [adding-a-bmc.md](adding-a-bmc.md) how a row is added.

How well something is known: [C] seen in a captured tree of a real BMC, [S] in source code, [D] in a vendor's
documentation, [F] reported from the field by somebody else, [I] inferred. Nothing here was tried on hardware by the project unless it says so.

`

// page is docs/bmcs.md.
func (m *matrix) page(rows []bmc.Profile) string {
	var b strings.Builder
	b.WriteString(pageHead)
	b.WriteString("## At a glance\n\n| family | row | images by | boots the CD by | known by | of | simulated as |\n| --- | --- | --- | --- | --- | --- | --- |\n")
	for _, p := range rows {
		fmt.Fprintf(&b, "| %s | `%s` | %s | %s | %s | %s | %s |\n",
			p.Family, p.Name, m.imagesBy(p), m.bootsBy(p), marks(p), p.Verified, strings.Join(m.kindsOf(p.Name), ", "))
	}
	b.WriteString("\n## Each family\n")
	for _, p := range rows {
		m.family(&b, p)
	}
	m.refusals(&b)
	b.WriteString("\n## Conformance\n\n")
	b.WriteString("What every client of a BMC has to do (`internal/bmc/bmctest`), tried against simulated machines (`internal/bmc/bmcsim`): each family as it is, and\n" +
		"behaviours that were seen in one family or another. `redfish` is the program's own client, over TLS; `memory` is the simulation's. A cell counts the cases that hold; `-` is for\n" +
		"what a machine gives no means to try. Under `misfortunes` each write of a boot meets closed connections, half answers, pages for people and error answers:\n" +
		"nothing is done twice, and nothing is told that is not so.\n\n")
	b.WriteString(m.table())
	b.WriteString("\n## Misfortunes\n\nHow often what was told was so, of the four writes of a boot (insert, arm, power off, restart), each on a machine of its own.\n\n")
	b.WriteString(m.struck())
	b.WriteString("\n## Not in these tables\n\nWhat a simulated machine can do and no line above does, and what tries it instead.\n\n| behaviour | tried by |\n| --- | --- |\n")
	for _, name := range slices.Sorted(maps.Keys(elsewhere)) {
		fmt.Fprintf(&b, "| %s | %s |\n", name, elsewhere[name])
	}
	return b.String()
}

// cannot reports whether no image can be mounted on any BMC of the row.
func (m *matrix) cannot(row string) bool {
	for _, l := range m.lines {
		if l.row == row {
			return false
		}
	}
	return slices.ContainsFunc(slices.Collect(maps.Values(m.refused)), func(r refused) bool { return r.row == row })
}

func (m *matrix) imagesBy(p bmc.Profile) string {
	switch {
	case m.cannot(p.Name):
		return "refused"
	case len(p.URL.Schemes) == 0:
		return "http, https"
	}
	var out []string
	for _, s := range p.URL.Schemes {
		if s == "http" || s == "https" {
			out = append(out, s)
		}
	}
	return strings.Join(out, ", ")
}

var bootWays = map[string]string{
	"oem-next-reset": "BootOnNextServerReset of the slot", "dell-attributes": "ServerBoot attributes", "fujitsu-boot-config": "BootConfig",
}

func (m *matrix) bootsBy(p bmc.Profile) string {
	if m.cannot(p.Name) {
		return "-"
	}
	return cmp.Or(bootWays[p.Boot], "override "+strings.Join(p.BootTargets, ", else "))
}

// marks lists how the row's facts are known, best first.
func marks(p bmc.Profile) string {
	var out []string
	for _, mark := range []string{"[C]", "[S]", "[D]", "[F]", "[I]"} {
		if slices.ContainsFunc(p.Evidence, func(e string) bool { return strings.Contains(e, mark) }) {
			out = append(out, mark)
		}
	}
	return strings.Join(out, " ")
}

// kindsOf lists the simulated kinds that got the row.
func (m *matrix) kindsOf(row string) []string {
	seen := map[string]bool{}
	for _, l := range m.lines {
		if l.row == row {
			seen[string(l.entry.kind)] = true
		}
	}
	for k, r := range m.refused {
		if r.row == row {
			seen[string(k)] = true
		}
	}
	if len(seen) == 0 {
		return []string{"-"}
	}
	return slices.Sorted(maps.Keys(seen))
}

func (m *matrix) family(b *strings.Builder, p bmc.Profile) {
	fmt.Fprintf(b, "\n### %s\n\n", p.Family)
	item := func(what, text string) {
		if text != "" {
			fmt.Fprintf(b, "- %s: %s\n", what, text)
		}
	}
	item("row", "`"+p.Name+"`, for "+matchedBy(p.Match))
	if !m.cannot(p.Name) {
		item("media", mediaOf(p))
		item("insert", insertOf(p))
		item("boot", m.bootsBy(p)+also(p.FullBoot, "target, enabled and mode always together")+also(p.OverrideStays, "the override is never cleared by a boot, and tells nothing"))
		item("images", urlOf(p.URL))
		item("login", map[bmc.Auth]string{bmc.AuthBasic: "Basic, also for writes", bmc.AuthSession: "a session, also for reads"}[p.Auth]+also(p.Login != nil, "with more than a name and a password"))
	}
	item("refused", p.Lacks.Why)
	if s := p.URL.Schemes; len(s) > 0 && !slices.Contains(s, "http") && !slices.Contains(s, "https") {
		item("refused", "it mounts by "+strings.Join(s, ", ")+" only, and images are served by web servers")
	}
	item("refused without a slot", p.NoSlot.Why)
	if len(p.Licence.At) > 0 {
		item("refused for its licence", "`"+strings.Join(p.Licence.At, ".")+"` like `"+p.Licence.Lacking+"`")
	}
	if kinds := m.kindsOf(p.Name); kinds[0] == "-" {
		item("not simulated", "no machine of the conformance suite is of this family")
	}
	for _, h := range p.Holes {
		item("not done", h)
	}
	fmt.Fprintf(b, "- known (the newest of it of %s):\n", p.Verified)
	for _, e := range p.Evidence {
		fmt.Fprintf(b, "  - %s\n", e)
	}
}

func matchedBy(match bmc.Match) string {
	var out []string
	for _, f := range []struct{ name, pattern string }{
		{"a key of Oem", match.OemKey}, {"a vendor", match.Vendor}, {"a product", match.Product}, {"a firmware", match.Firmware}, {"a model", match.Model},
	} {
		if f.pattern != "" {
			out = append(out, f.name+" like `"+strings.ReplaceAll(f.pattern, "|", "\\|")+"`")
		}
	}
	return cmp.Or(strings.Join(out, " and "), "whatever no other row is for")
}

func also(is bool, what string) string {
	if is {
		return "; " + what
	}
	return ""
}

func mediaOf(p bmc.Profile) string {
	text := "under the " + strings.Join(p.MediaAt, ", else the ")
	if p.Slots != "" {
		text += ", a slot like `" + strings.ReplaceAll(p.Slots, "|", "\\|") + "`" + map[bool]string{true: " only", false: " first"}[p.OnlySlots]
	}
	text += also(p.TrySlots, "another slot where one refuses images")
	text += also(len(p.Enable) > 0, "switched on by "+strings.Join(p.Enable, " or "))
	text += also(p.Attached != "", "an image that is not connected does not count")
	text += also(p.StaleName != "", "the name of an image that was ejected means nothing")
	return text
}

func insertOf(p bmc.Profile) string {
	with := "the URL alone"
	if len(p.InsertWith) > 0 {
		var names []string
		for _, f := range p.InsertWith {
			names = append(names, string(f))
		}
		with = "the URL, " + strings.Join(names, ", ")
	}
	text := map[string]string{"action": "the action InsertMedia", "patch": "a PATCH of the slot, where it offers no action", "oem": "the vendor's action, else a PATCH"}[p.Insert] +
		" with " + with + " at first"
	text += also(p.SettleSeconds > 0, fmt.Sprintf("then %g s before it is booted", p.SettleSeconds))
	text += also(p.EjectSettleSeconds > 0, fmt.Sprintf("not before %g s after an eject", p.EjectSettleSeconds))
	return text
}

func urlOf(r bmc.URLRules) string {
	text := "by " + cmp.Or(strings.Join(r.Schemes, ", "), "http, https")
	text += also(r.DefaultPort, "from the default port only")
	text += also(r.Address, "from an IP address, not a name")
	text += also(r.Path != "", "with no other characters in the path than `"+r.Path+"/`")
	text += also(r.MinDirectories > 0, "in a directory")
	text += also(r.MaxURL > 0, fmt.Sprintf("of at most %d characters", r.MaxURL))
	text += also(r.MaxName > 0, fmt.Sprintf("with a name of at most %d characters", r.MaxName))
	text += also(len(r.Endings) > 0, "ending in "+strings.Join(r.Endings, " or "))
	return text
}

// refusals is what plans say of machines that no image can be mounted on.
func (m *matrix) refusals(b *strings.Builder) {
	b.WriteString("\n## What is refused, as a plan says it\n\n| machine | row | kind | why | what to do |\n| --- | --- | --- | --- | --- |\n")
	for _, k := range slices.SortedFunc(maps.Keys(m.refused), func(a, b bmcsim.Kind) int { return cmp.Compare(a, b) }) {
		r := m.refused[k]
		fmt.Fprintf(b, "| %s | `%s` | %s | %s | %s |\n", k, r.row, r.kind, r.says, r.hint)
	}
}
