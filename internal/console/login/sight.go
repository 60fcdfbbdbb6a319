package login

import (
	"regexp"
	"strings"
)

// A sight is what waits for an answer at the end of the screen.
type sight int

const (
	nothing     sight = iota // nothing that is known
	atLogin                  // getty's or login's question who it is
	atPassword               // the password of who logs in
	atCurrent                // the password that shall be changed
	atNew                    // the new password
	atAgain                  // the new password, again
	atRootShell              // a shell's prompt, root's by custom
	atUserShell              // a shell's prompt, somebody else's by custom
	atLoader                 // a boot loader's or firmware's own shell
	atEmergency              // systemd's or dracut's shell after a failed boot
)

// sights are in the order in which they are tried: a retyped new password is a
// new password too, and that a password. The wordings are those of util-linux,
// shadow, pam_unix ("(current) UNIX password:" before 1.3, "Current password:"
// since), pam_pwquality, pam_cracklib and SUSE's pam_unix2.
var sights = []struct {
	is   sight
	line *regexp.Regexp
}{
	{atEmergency, regexp.MustCompile(`(?i)(for maintenance\W.*|dracut:\S*#\s*|to continue\)?:\s*)$`)},
	{atLoader, regexp.MustCompile(`(?i)^\s*(grub|grub rescue|shell|ipxe|uefi interactive shell|fs\d+:.*|boot)\s*[>:]\s*$`)},
	{atAgain, regexp.MustCompile(`(?i)((retype|re-?enter|repeat|confirm|verify).*pass(word|phrase)|pass(word|phrase)[^:]*(again|once more|confirm)[^:]*)\s*:\s*$`)},
	{atCurrent, regexp.MustCompile(`(?i)(current\)?|old|existing)\s+(\w+\s+)?pass(word|phrase)\s*:\s*$`)},
	{atNew, regexp.MustCompile(`(?i)new\s+(\w+\s+)?pass(word|phrase)( for \S+)?\s*:\s*$`)},
	{atPassword, regexp.MustCompile(`(?i)pass(word|phrase)( for \S+)?\s*:\s*$`)},
	{atLogin, regexp.MustCompile(`(?i)(^|\s)(login|username)\s*:\s*$`)},
	{atRootShell, regexp.MustCompile(`\S?#\s*$`)},
	{atUserShell, regexp.MustCompile(`\S?[$%]\s*$`)},
}

var (
	lastLogin = regexp.MustCompile(`(?i)last (failed )?login\s*:\s*$`)
	// taken is how BMCs say that another has the console (ipmitool, iLO, OpenBMC,
	// SMASH).
	taken = regexp.MustCompile(`(?i)(already (active|in use|attached|connected)|in use by another|currently in use|session .*(in use|conflict))`)
)

// look says what a cleaned text ends in.
func look(text string) sight {
	line := lastLine(text)
	if strings.TrimSpace(line) == "" || lastLogin.MatchString(line) {
		return nothing
	}
	for _, s := range sights {
		if s.line.MatchString(line) {
			return s.is
		}
	}
	return nothing
}

var (
	// refusals are the lines that say why a password was not taken.
	refusals = regexp.MustCompile(`(?im)^.*(bad password|password unchanged|token manipulation|already used|choose another|too (short|simple|similar|recent)|must (choose|wait|be|contain|differ)|is a palindrome|dictionary|not contain enough|password mismatch|no password|is too |failed preliminary|has been aborted|have exhausted).*$`)
	// noMatch says that the two new passwords were not the same.
	noMatch = regexp.MustCompile(`(?i)(do not|don't|did not) match`)
	// incorrect says that a login was refused.
	incorrect = regexp.MustCompile(`(?i)(login incorrect|authentication failure|login failed|permission denied|access denied|refused on this terminal|maximum number of tries)`)
	// barred says that no password lets the account in (pam_faillock, pam_unix).
	barred = regexp.MustCompile(`(?im)^.*account (is |has |has been )?(temporarily )?(locked|expired|disabled).*$`)
	// chooses is a screen of firmware or of a boot loader, on which an Enter would
	// choose something.
	chooses = regexp.MustCompile(`(?im)GNU GRUB|(isolinux|syslinux) \d|^boot: *$|press .*\b(to (enter|continue|boot|select)|any key)\b|boot (menu|manager)|setup utility|\bBIOS\b|\biPXE\b`)
)

// mayWake reports whether Enter can be typed on a silent screen: only what was
// said last counts, for a machine that starts shows menus in passing.
func mayWake(text string) bool {
	const end = 1 << 10
	text = strings.TrimRight(text, " \n")
	return !chooses.MatchString(text[max(0, len(text)-end):]) && look(lastLine(text)) != atLoader
}

// reasons are the lines of a text that say why a password was refused.
func reasons(text string) []string {
	var out []string
	for _, line := range refusals.FindAllString(text, -1) {
		out = append(out, strings.TrimSpace(line))
	}
	return out
}
