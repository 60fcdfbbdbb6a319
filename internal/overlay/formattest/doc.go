// Package formattest is a second reading of docs/backup-format.md: a reader of
// backups written from that page alone, as a test. It shares no code with the
// program's own, so that what the page does not say is missed here.
package formattest
