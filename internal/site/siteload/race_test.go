//go:build race

package siteload_test

const underRace = true
