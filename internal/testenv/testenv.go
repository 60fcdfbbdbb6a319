// Package testenv says what a test needs that a machine may not have.
package testenv

import (
	"os"
	"testing"
)

// Unable skips a test that cannot be run here, and says why. Where CI is set that
// is a failure: no test of the real parts may go missing unseen.
func Unable(t testing.TB, why string) {
	t.Helper()
	if os.Getenv("CI") != "" {
		t.Fatal(why)
	}
	t.Skip(why)
}
