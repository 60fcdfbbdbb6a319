package report

import (
	"reflect"
	"strings"

	"github.com/livecd-sync/livecd-sync/internal/plan"
)

// KnownActions lists the actions that ReadPlan takes.
func KnownActions() []plan.Action { return knownActions }

// AllArguments names the arguments that are told of an action each of whose
// fields is set, once for each action that has it.
func AllArguments() []string {
	var names []string
	for _, a := range knownActions {
		v := reflect.New(reflect.TypeOf(a)).Elem()
		for i := range v.NumField() {
			setSomething(v.Field(i))
		}
		args := reflect.ValueOf(arguments(v.Interface().(plan.Action)))
		for i := range args.NumField() {
			if !args.Field(i).IsZero() {
				names = append(names, a.Name()+"."+args.Type().Field(i).Name)
			}
		}
	}
	return names
}

func setSomething(v reflect.Value) {
	switch v.Kind() {
	case reflect.String:
		v.SetString("x")
	case reflect.Bool:
		v.SetBool(true)
	case reflect.Int64:
		v.SetInt(1e9)
	default:
		panic("an action has a field of kind " + v.Kind().String())
	}
}

// FieldNames lists the names that the documents use.
func FieldNames() []string {
	var names []string
	for _, doc := range []any{Document{}, StatusDocument{}} {
		names = collect(names, reflect.TypeOf(doc))
	}
	return names
}

func collect(names []string, t reflect.Type) []string {
	for t.Kind() == reflect.Pointer || t.Kind() == reflect.Slice {
		t = t.Elem()
	}
	if t.Kind() != reflect.Struct || t.PkgPath() == "time" {
		return names
	}
	for i := range t.NumField() {
		f := t.Field(i)
		if name, _, _ := strings.Cut(f.Tag.Get("json"), ","); name != "" {
			names = append(names, name)
		}
		names = collect(names, f.Type)
	}
	return names
}
