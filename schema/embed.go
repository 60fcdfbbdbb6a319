// Package schema holds what is valid: the definition of a site file and the
// rows that say how families of BMCs behave, as CUE text.
package schema

import _ "embed"

// Site is site.cue, which defines #Site: the shape of a site file.
//
//go:embed site.cue
var Site string

// Profiles is profiles.cue, which lists how families of BMCs behave.
//
//go:embed profiles.cue
var Profiles string
