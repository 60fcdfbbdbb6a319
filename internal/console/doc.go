// Package console opens the serial consoles of nodes: by the way that the row of
// the BMC's family names, or as the site file says.
package console
