/** Names for the generated types that the page uses. */

import type { components } from "./schema";

type Schemas = components["schemas"];

export type AttributionInfo = Schemas["AttributionInfo"];
export type CompactEvidence = Schemas["CompactEvidence"];
export type ComponentAssociation = Schemas["ComponentAssociation"];
export type ComponentCard = Schemas["ComponentCard"];
export type ComponentFirings = Schemas["ComponentFirings"];
export type ComponentPage = Schemas["ComponentPage"];
export type ComponentSummary = Schemas["ComponentSummary"];
export type DocumentPage = Schemas["DocumentPage"];
export type Entry = Schemas["Entry"];
export type EntryList = Schemas["EntryList"];
export type ErrorBody = Schemas["ErrorBody"];
export type Evidence = Schemas["Evidence"];
export type Evaluation = Schemas["Evaluation"];
export type Example = Schemas["Example"];
export type ExamplePage = Schemas["ExamplePage"];
export type Firings = Schemas["Firings"];
export type RunDetail = Schemas["RunDetail"];
export type RunList = Schemas["RunList"];
export type RunSummary = Schemas["RunSummary"];
export type SiteInfo = Schemas["SiteInfo"];
export type TokenAssociation = Schemas["TokenAssociation"];
export type StrongestEnd = Schemas["StrongestEnd"];
export type TokenHit = Schemas["TokenHit"];
export type TokenPage = Schemas["TokenPage"];
export type Unavailable = Schemas["Unavailable"];
