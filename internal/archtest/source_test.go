package archtest

import (
	"fmt"
	"go/ast"
	"go/token"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
)

// clocks are the funcs and types that tell the time or wait, by package.
var clocks = map[string][]string{
	"time": {"Now", "Since", "Until", "Sleep", "After", "AfterFunc", "Tick", "NewTimer", "NewTicker"},
	"bmc":  {"SystemClock"},
}

// noClockNoGoroutine: what the planner finds depends on the facts alone.
func noClockNoGoroutine(s source) []string {
	var broken []string
	ast.Inspect(s.file, func(n ast.Node) bool {
		switch n := n.(type) {
		case *ast.SelectorExpr:
			if x, ok := n.X.(*ast.Ident); ok && slices.Contains(clocks[x.Name], n.Sel.Name) {
				broken = append(broken, fmt.Sprintf("%s: %s.%s: the planner has no clock; the time is in Observed.At", s.at(n), x.Name, n.Sel.Name))
			}
		case *ast.GoStmt:
			broken = append(broken, fmt.Sprintf("%s: a go statement: the planner starts nothing", s.at(n)))
		}
		return true
	})
	return broken
}

// vendor matches the names of BMC vendors and their products.
var vendor = regexp.MustCompile(`(?i)\b(hpe?|hewlett|ilo|gigabyte|ami|megarac|american megatrends|dell|idrac|supermicro|lenovo|xcc|cray|huawei|ibmc|xfusion|fujitsu|irmc|openbmc|intel|quanta|asrock(rack)?|inspur|nvidia|h3c)\b`)

// compares are the funcs of package strings that compare.
var compares = []string{"EqualFold", "Contains", "HasPrefix", "HasSuffix", "Compare", "Index"}

// noVendorIsAskedFor: what differs between BMCs is data in schema/profiles.cue,
// or an answer to what the BMC said; code never asks who made it.
func noVendorIsAskedFor(s source) []string {
	var broken []string
	check := func(exprs ...ast.Expr) {
		for _, e := range exprs {
			if lit, ok := e.(*ast.BasicLit); ok && lit.Kind == token.STRING && vendor.MatchString(unquoted(lit)) {
				broken = append(broken, fmt.Sprintf("%s: compares with %s: say what differs in schema/profiles.cue, or react to what the BMC said", s.at(lit), lit.Value))
			}
		}
	}
	ast.Inspect(s.file, func(n ast.Node) bool {
		switch n := n.(type) {
		case *ast.BinaryExpr:
			if n.Op == token.EQL || n.Op == token.NEQ {
				check(n.X, n.Y)
			}
		case *ast.CaseClause:
			check(n.List...)
		case *ast.CallExpr:
			if sel, ok := n.Fun.(*ast.SelectorExpr); ok && slices.Contains(compares, sel.Sel.Name) {
				check(n.Args...)
			}
		}
		return true
	})
	return broken
}

func unquoted(lit *ast.BasicLit) string {
	s, err := strconv.Unquote(lit.Value)
	if err != nil {
		return lit.Value
	}
	return s
}

func TestPlannerHasNoClock(t *testing.T) {
	for _, s := range look(t)[module+"/internal/plan"].sources(t) {
		report(t, noClockNoGoroutine(s))
	}
}

func TestNoVendorIsAskedFor(t *testing.T) {
	plays := within(module+"/internal/bmc/bmcsim", module+"/internal/sim") // they are the vendors' machines
	for _, p := range look(t).ours() {
		if !strings.HasPrefix(p.own(), "internal/") || plays(p.ImportPath) {
			continue
		}
		for _, s := range p.sources(t) {
			report(t, noVendorIsAskedFor(s))
		}
	}
}

func TestSourceRulesCanFail(t *testing.T) {
	wantBroken(t, noClockNoGoroutine(parse(t, "plan.go", `package plan
		func f() {
			_ = time.Now()
			_ = time.Duration(1) + o.At.Sub(time.Unix(0, 0))
			go f()
			_ = bmc.SystemClock{}
		}`)),
		"plan.go:3:8: time.Now", "plan.go:5:4: a go statement", "plan.go:6:8: bmc.SystemClock")
	wantBroken(t, noVendorIsAskedFor(parse(t, "redfish.go", `package redfish
		func f() {
			if id.Vendor == "HPE" || "iLO 5" != id.Product {}
			switch id.Vendor { case "x", "GIGABYTE": }
			_ = strings.HasPrefix(id.Product, "MegaRAC ")
			_ = id.Vendor == "" || key == "Philosophy"
			log("HPE iLO")
		}`)),
		`redfish.go:3:20: compares with "HPE"`, `redfish.go:3:29: compares with "iLO 5"`, `redfish.go:4:33`, `redfish.go:5:38`)
}
