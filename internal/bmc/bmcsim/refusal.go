package bmcsim

import (
	"fmt"
	"net/http"
	"strings"

	"github.com/livecd-sync/livecd-sync/internal/bmc"
)

// A refusal is a BMC's error answer.
type refusal struct {
	status  int
	id      string // the whole MessageId
	message string
	args    []string
	kind    bmc.Kind // what the in-memory client makes of it
}

func (r *refusal) Error() string { return r.id + ": " + r.message }

// refusalOf gives an error of the state machine its type: all of them are
// refusals, and one that is not is a fault of this package.
func refusalOf(err error) *refusal {
	return err.(*refusal) //nolint:errcheck,errorlint // to panic is right
}

// wording is one message of a registry.
type wording struct {
	status  int
	id      string // "Base." or "Oem." stands for the kind's registry of that name
	message string // %1, %2, … are the arguments
	kind    bmc.Kind
}

// wordings are the messages that all kinds know. The ids are those of DMTF's
// Base registry, and of the vendors' where vendors.md 3.1 and 3.2 name them.
var wordings = map[string]wording{
	"ActionNotSupported":                {http.StatusMethodNotAllowed, "Base.ActionNotSupported", "The action %1 is not supported by the resource.", bmc.KindUnsupported},
	"ActionParameterMissing":            {http.StatusBadRequest, "Base.ActionParameterMissing", "The action %1 requires that the parameter %2 be present in the request body.", bmc.KindProtocol},
	"ActionParameterUnknown":            {http.StatusBadRequest, "Base.ActionParameterUnknown", "The action %1 was submitted with the invalid parameter %2.", bmc.KindProtocol},
	"ActionParameterValueFormatError":   {http.StatusBadRequest, "Base.ActionParameterValueFormatError", "The value %1 for the parameter %2 in the action %3 is in a format that is not supported by the parameter.", bmc.KindURL},
	"ActionParameterValueNotInList":     {http.StatusBadRequest, "Base.ActionParameterValueNotInList", "The value %1 for the parameter %2 in the action %3 is not in the list of acceptable values.", bmc.KindUnsupported},
	"CouldNotEstablishConnection":       {http.StatusBadRequest, "Base.CouldNotEstablishConnection", "The service failed to establish a connection with the URI %1.", bmc.KindURL},
	"AuthorizationFailed":               {http.StatusUnauthorized, "Oem.AuthorizationFailed", "Authorization failed.", bmc.KindAuth},
	"FutureState":                       {http.StatusBadRequest, "Base.PropertyNotWritable", "The property %1 is a read only property and cannot be assigned a value.", bmc.KindProtocol},
	"PowerConflict":                     {http.StatusConflict, "Base.ActionParameterValueConflict", "The action was submitted with parameter %2 whose value conflicts with the resource's state.", bmc.KindBusy},
	"DriveFull":                         {http.StatusConflict, "Base.ResourceInUse", "The change to the requested resource failed because the resource is in use or in transition.", bmc.KindMedia},
	"GeneralError":                      {http.StatusInternalServerError, "Base.GeneralError", "A general error has occurred. See Resolution for information on how to resolve the error.", bmc.KindProtocol},
	"InsufficientPrivilege":             {http.StatusForbidden, "Base.InsufficientPrivilege", "There are insufficient privileges for the account or credentials associated with the current session to perform the requested operation.", bmc.KindAuth},
	"InternalError":                     {http.StatusInternalServerError, "Base.InternalError", "The request failed due to an internal service error.", bmc.KindProtocol},
	"InvalidOperationForSystemState":    {http.StatusConflict, "Base.ResourceInUse", "The operation was not successful due to the current power state.", bmc.KindBusy},
	"InsufficientStorageForResponse":    {http.StatusInsufficientStorage, "Oem.InsufficientStorageForResponse", "The response is too large for the service.", bmc.KindProtocol},
	"LicenseKeyRequired":                {http.StatusForbidden, "SMC.1.0.OemLicenseNotPassed", "Not licensed to perform this request.", bmc.KindLicence},
	"MalformedJSON":                     {http.StatusBadRequest, "Base.MalformedJSON", "The request body submitted was malformed JSON and could not be parsed by the receiving service.", bmc.KindProtocol},
	"NoValidSession":                    {http.StatusUnauthorized, "Base.NoValidSession", "There is no valid session established with the implementation.", bmc.KindAuth},
	"NoVirtualMediaConnectionAvailable": {http.StatusBadRequest, "Base.ActionNotSupported", "There is no media to eject.", bmc.KindMedia},
	"PreconditionFailed":                {http.StatusPreconditionFailed, "Base.PreconditionFailed", "The ETag supplied did not match the ETag required to change this resource.", bmc.KindBusy},
	"PreconditionRequired":              {http.StatusPreconditionRequired, "Base.PreconditionRequired", "A precondition header or annotation is required to change this resource.", bmc.KindProtocol},
	"PropertyMissing":                   {http.StatusBadRequest, "Base.PropertyMissing", "The property %1 is a required property and must be included in the request.", bmc.KindProtocol},
	"PropertyNotWritable":               {http.StatusBadRequest, "Base.PropertyNotWritable", "The property %1 is a read only property and cannot be assigned a value.", bmc.KindProtocol},
	"PropertyUnknown":                   {http.StatusBadRequest, "Base.PropertyUnknown", "The property %1 is not in the list of valid properties for the resource.", bmc.KindUnsupported},
	"PropertyValueNotInList":            {http.StatusBadRequest, "Base.PropertyValueNotInList", "The value %1 for the property %2 is not in the list of acceptable values.", bmc.KindUnsupported},
	"QueryNotSupported":                 {http.StatusNotImplemented, "Base.QueryNotSupported", "Querying is not supported by the implementation.", bmc.KindProtocol},
	"QueryNotSupportedOnResource":       {http.StatusBadRequest, "Base.QueryNotSupportedOnResource", "Querying is not supported on the requested resource.", bmc.KindProtocol},
	"QueryParameterOutOfRange":          {http.StatusBadRequest, "Base.QueryParameterOutOfRange", "The value %1 for the query parameter %2 is out of range %3.", bmc.KindProtocol},
	"QueryParameterValueFormatError":    {http.StatusBadRequest, "Base.QueryParameterValueFormatError", "The value %1 for the parameter %2 is of a different format than the parameter can accept.", bmc.KindProtocol},
	"ResourceInUse":                     {http.StatusConflict, "Base.ResourceInUse", "The change to the requested resource failed because the resource is in use or in transition.", bmc.KindBusy},
	"ResourceMissingAtURI":              {http.StatusNotFound, "Base.ResourceMissingAtURI", "The resource at the URI %1 was not found.", bmc.KindUnsupported},
	"ServiceUnavailable":                {http.StatusServiceUnavailable, "Base.ServiceTemporarilyUnavailable", "The service is temporarily unavailable. Retry in %1 seconds.", bmc.KindBusy},
	"SessionLimitExceeded":              {http.StatusServiceUnavailable, "Base.SessionLimitExceeded", "The session establishment failed due to the number of simultaneous sessions exceeding the limit of the implementation.", bmc.KindBusy},
	"Unauthorized":                      {http.StatusUnauthorized, "Base.ResourceAtUriUnauthorized", "The login was refused.", bmc.KindAuth},
	"UnableToModifyDuringSystemPOST":    {http.StatusServiceUnavailable, "Base.ServiceTemporarilyUnavailable", "The value for the property %1 cannot be changed while the computer system BIOS is in POST.", bmc.KindBusy},
	"UnsupportedMediaType":              {http.StatusUnsupportedMediaType, "Base.UnsupportedMediaType", "The content type of the request body is not supported.", bmc.KindProtocol},
}

// iloWordings are HPE's own (vendors.md 3.1).
var iloWordings = map[string]wording{
	"DriveFull":                         {http.StatusBadRequest, "Oem.MaxVirtualMediaConnectionEstablished", "No more Virtual Media connections are available, because the maximum number of connections are already established.", bmc.KindMedia},
	"InvalidOperationForSystemState":    {http.StatusBadRequest, "Oem.InvalidOperationForSystemState", "The operation was not successful due to the current power state.", bmc.KindBusy},
	"LicenseKeyRequired":                {http.StatusForbidden, "Oem.LicenseKeyRequired", "A license key is required to use this operation or feature.", bmc.KindLicence},
	"NoVirtualMediaConnectionAvailable": {http.StatusBadRequest, "Oem.NoVirtualMediaConnectionAvailable", "No Virtual Media connections exist to perform the operation.", bmc.KindMedia},
	"Unauthorized":                      {http.StatusUnauthorized, "Oem.UnauthorizedLoginAttempt", "The login was not successful, because the supplied credentials could not be authorized.", bmc.KindAuth},
	"UnableToModifyDuringSystemPOST":    {http.StatusBadRequest, "Oem.UnableToModifyDuringSystemPOST", "The value for property %1 cannot be changed while the computer system BIOS is in POST.", bmc.KindBusy},
}

// amiWordings are AMI's own (vendors.md 3.2).
var amiWordings = map[string]wording{
	"FutureState":                    {http.StatusBadRequest, "Oem.OperationSupportedInFutureStateURI", "The operation is supported in the future state URI only.", bmc.KindProtocol},
	"DriveFull":                      {http.StatusBadRequest, "Base.GeneralError", "The image is being redirected via another CD instance.", bmc.KindMedia},
	"LicenseKeyRequired":             {http.StatusForbidden, "Oem.Licenserequire", "A license is required to use this feature.", bmc.KindLicence},
	"PreconditionRequired":           {http.StatusPreconditionRequired, "Oem.PreconditionHeaderMissing", "The request needs an If-Match header.", bmc.KindProtocol},
	"ServiceUnavailable":             {http.StatusServiceUnavailable, "Oem.ServiceTemporarilyUnavailableDueToHostBooting", "The service is temporarily unavailable because the host is booting.", bmc.KindBusy},
	"UnableToModifyDuringSystemPOST": {http.StatusServiceUnavailable, "Oem.ServiceTemporarilyUnavailableDueToHostBooting", "The service is temporarily unavailable because the host is booting.", bmc.KindBusy},
}

// refuse words a refusal in the kind's own registries.
func (k kind) refuse(name string, args ...string) *refusal {
	w, ok := k.wordings[name]
	if !ok {
		if w, ok = wordings[name]; !ok {
			panic("bmcsim: no wording for " + name)
		}
	}
	r := &refusal{status: w.status, message: w.message, args: args, kind: w.kind}
	r.id = strings.NewReplacer("Base.", k.baseRegistry+".", "Oem.", k.oemRegistry+".").Replace(w.id)
	for i, a := range args {
		r.message = strings.ReplaceAll(r.message, fmt.Sprintf("%%%d", i+1), a)
	}
	return r
}

// body is the refusal as an answer's body.
func (k kind) body(r *refusal) doc {
	info := doc{"MessageId": r.id}
	if len(r.args) > 0 {
		info["MessageArgs"] = r.args
	}
	if k.terse {
		return doc{"error": doc{
			"code":                  "iLO.0.10.ExtendedInfo",
			"message":               "See @Message.ExtendedInfo for more information.",
			"@Message.ExtendedInfo": []any{info},
		}}
	}
	info["@odata.type"] = "#Message.v1_0_7.Message"
	info["Message"] = r.message
	info["Severity"] = "Warning"
	info["Resolution"] = "None"
	return doc{"error": doc{
		"code":                  r.id,
		"message":               r.message,
		"@Message.ExtendedInfo": []any{info},
	}}
}
