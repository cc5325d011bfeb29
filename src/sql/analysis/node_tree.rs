//! PostgreSQL's node trees in text, as catalogs have them (`pg_node_tree`), and the objects that an expression or a query in one refers
//! to. Their nodes and fields differ by major version: those of 13 to 18 are listed here, and a tree with another is an error, since
//! what it refers to would be overlooked.

use serde::Serialize;
use std::collections::{BTreeMap, BTreeSet};

/// The objects that node trees refer to, by OID.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub struct References {
    /// Functions, aggregates and window functions.
    pub functions: BTreeSet<u32>,
    pub operators: BTreeSet<u32>,
    pub types: BTreeSet<u32>,
    /// Each relation with what is done to it.
    pub relations: BTreeMap<u32, Events>,
}

/// Changes of a relation, in the bits of `pg_trigger.tgtype`; 0 for a relation that is only read.
pub type Events = i32;

pub const INSERT: Events = 4;
pub const DELETE: Events = 8;
pub const UPDATE: Events = 16;
/// Takes columns' defaults; no bit of `tgtype`.
pub const DEFAULTS: Events = 1 << 20;

/// The deepest tree that is read: deeper ones would exhaust the stack.
const DEEPEST: usize = 1_000;

/// Nodes of stored queries and expressions. Before 16 some have shorter names.
const NODES: &str = "AGGREF ALIAS ARRAY ARRAYCOERCEEXPR ARRAYEXPR BOOLEANTEST BOOLEXPR CASE CASEEXPR CASETESTEXPR CASEWHEN
    COALESCE COALESCEEXPR COERCETODOMAIN COERCETODOMAINVALUE COERCEVIAIO COLLATE COLLATEEXPR COMMONTABLEEXPR CONST
    CONVERTROWTYPEEXPR CTECYCLECLAUSE CTESEARCHCLAUSE DISTINCTEXPR FIELDSELECT FIELDSTORE FROMEXPR FUNCEXPR GROUPINGFUNC GROUPINGSET
    INFERENCEELEM JOINEXPR JSONBEHAVIOR JSONCONSTRUCTOREXPR JSONEXPR JSONFORMAT JSONISPREDICATE JSONRETURNING JSONVALUEEXPR MINMAX
    MINMAXEXPR NAMEDARGEXPR NULLIFEXPR NULLTEST ONCONFLICTEXPR OPEXPR PARAM QUERY RANGETBLENTRY RANGETBLFUNCTION RANGETBLREF
    RELABELTYPE RETURNINGEXPR ROW ROWCOMPARE ROWCOMPAREEXPR ROWEXPR ROWMARKCLAUSE RTE RTEPERMISSIONINFO SCALARARRAYOPEXPR
    SETOPERATIONSTMT SETTODEFAULT SORTGROUPCLAUSE SQLVALUEFUNCTION SUBLINK SUBSCRIPTINGREF TABLEFUNC TABLESAMPLECLAUSE TARGETENTRY
    VAR WHEN WINDOWCLAUSE WINDOWFUNC XMLEXPR";

const FUNCTIONS: &str =
    "aggfnoid endInRangeFunc funcid hashfuncid negfuncid opfuncid startInRangeFunc tsmhandler winfnoid";

const OPERATORS: &str = "cycle_mark_neop eqop opno opnos sortop";

const TYPES: &str = "aggargtypes aggtranstype aggtype array_typeid casetype coalescetype colTypes coltypes consttype
    ctecoltypes cycle_mark_type element_typeid funccoltypes funcresulttype minmaxtype opresulttype paramtype refcontainertype
    refelemtype refrestype resulttype row_typeid type typeId typid vartype wintype";

const RELATIONS: &str = "relid resorigtbl";

/// Fields with numbers that refer to nothing that could run: positions, enums, type modifiers, collations, operator families, and the
/// bytes of constants.
const NUMBERS: &str = "action aggcollid agglevelsup aggno aggsplit aggtransno argnumber array_collid booltesttype btype casecollid
    checkAsUser cmptype coalescecollid coerceformat coercionformat colCollations colTypmods colcollations collOid collation coltypmods
    commandType constcollid constlen constraint constraintDeps consttypmod constvalue content convertformat ctecolcollations
    ctecoltypmods ctelevelsup ctematerialized cterefcount cycle_mark_collation cycle_mark_typmod encoding enrtuples exclRelIndex
    extraUpdatedCols fieldnum fieldnums format_type frameOptions funccolcollations funccolcount funccollid funccoltypmods funcformat
    funcparams functype inRangeColl infercollid inferopclass inputcollid inputcollids insertedCols item_type joinleftcols
    joinmergedcols joinrightcols jointype kind limitOption list_end list_start location mergeTargetRelation minmaxcollid notnulls
    nulltesttype op opcollid opfamilies ordinalitycol override paramcollid paramid paramkind paramtypmod perminfoindex querySource
    rctype refcollid refs reftypmod relabelformat rellockmode requiredPerms resno resorigcol ressortgroupref resultRelation resultcollid
    resulttypmod retlevelsup row_format rtekind rti rtindex selectedCols stmt_len stmt_location strength subLinkId subLinkType
    tleSortGroupRef typeMod typmod updatedCols varattno varattnosyn varcollid varlevelsup varno varnosyn varnullingrels
    varreturningtype vartypmod waitPolicy wincollid winref wrapper xmloption";

fn lists(list: &str, word: &str) -> bool {
    list.split_whitespace().any(|known| known == word)
}

/// A part of a tree that this version doesn't know: "MERGEACTION", "VAR.varfoo".
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct UnknownPart(String);

impl References {
    /// Adds the references of a tree.
    ///
    /// # Errors
    /// A part that is not known: its references can't be told.
    pub fn add(&mut self, tree: &str) -> Result<(), UnknownPart> {
        let mut tokens = Tokens(tree);
        while let Some(item) = tokens.item(0)? {
            self.item(&item)?;
        }
        Ok(())
    }

    /// Adds a relation, or what is done to a known one.
    pub fn relation(&mut self, oid: u32, events: Events) {
        *self.relations.entry(oid).or_default() |= events;
    }

    fn item(&mut self, item: &Item<'_>) -> Result<(), UnknownPart> {
        match item {
            Item::Atom(_) => Ok(()),
            Item::List(items) => items.iter().try_for_each(|item| self.item(item)),
            Item::Node(node) => self.node(node),
        }
    }

    fn node(&mut self, node: &Node<'_>) -> Result<(), UnknownPart> {
        if !lists(NODES, node.name) {
            return Err(UnknownPart(node.name.to_owned()));
        }
        if node.name == "QUERY" {
            self.change(node);
        }
        for (field, items) in &node.fields {
            let oids =
                || items.iter().flat_map(Item::numbers).filter_map(|number| u32::try_from(number).ok());
            let oids = || oids().filter(|oid| *oid != 0);
            if lists(FUNCTIONS, field) {
                self.functions.extend(oids());
            } else if lists(OPERATORS, field) {
                self.operators.extend(oids());
            } else if lists(TYPES, field) {
                self.types.extend(oids());
            } else if lists(RELATIONS, field) {
                oids().for_each(|oid| self.relation(oid, 0));
            } else if !lists(NUMBERS, field)
                && items.iter().any(|item| item.numbers().any(|number| number != 0))
            {
                return Err(UnknownPart(format!("{}.{field}", node.name)));
            }
            items.iter().try_for_each(|item| self.item(item))?;
        }
        Ok(())
    }

    /// Adds what a query does to its target.
    fn change(&mut self, query: &Node<'_>) {
        let number = |field| query.field(field).flat_map(Item::numbers).next().unwrap_or_default();
        let events = match number("commandType") {
            // UPDATE, INSERT, DELETE; MERGE is among the unknown nodes.
            2 => UPDATE,
            3 => INSERT | DEFAULTS,
            4 => DELETE,
            _ => return,
        };
        let conflict = query.field("onConflict").any(|item| matches!(item, Item::Node(_)));
        let defaults = query.field("targetList").any(Item::has_default);
        let events = events | if conflict { UPDATE } else { 0 } | if defaults { DEFAULTS } else { 0 };
        let target = usize::try_from(number("resultRelation")).ok().and_then(|index| index.checked_sub(1));
        let entries = query.field("rtable").filter_map(|item| match item {
            Item::List(entries) => entries.get(target?),
            _ => None,
        });
        for entry in entries {
            let Item::Node(entry) = entry else { continue };
            let oids = entry.field("relid").flat_map(Item::numbers).filter_map(|oid| u32::try_from(oid).ok());
            oids.for_each(|oid| self.relation(oid, events));
        }
    }
}

/// A function or an operator that an expression of a table calls. Serializes as one row for SQL.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct ExpressionCall {
    /// 0 for an operator.
    pub function: u32,
    /// 0 for a function.
    pub operator: u32,
    /// True unless an argument is certainly no constant. The planner computes a call whose arguments are all constant, whatever the query
    /// is, as soon as it plans one of the table.
    pub may_be_constant: bool,
}

impl ExpressionCall {
    /// The calls in an expression of an index or of statistics.
    ///
    /// # Errors
    /// As [`References::add`].
    pub fn all(tree: &str) -> Result<Vec<ExpressionCall>, UnknownPart> {
        References::default().add(tree)?;
        let mut calls = Vec::new();
        let mut tokens = Tokens(tree);
        while let Some(item) = tokens.item(0)? {
            item.add_calls(&mut calls);
        }
        Ok(calls)
    }
}

enum Item<'a> {
    Atom(&'a str),
    List(Vec<Item<'a>>),
    Node(Node<'a>),
}

struct Node<'a> {
    name: &'a str,
    fields: Vec<(&'a str, Vec<Item<'a>>)>,
}

impl<'a> Node<'a> {
    fn field(&self, name: &str) -> impl Iterator<Item = &Item<'a>> {
        self.fields.iter().filter(move |(field, _)| *field == name).flat_map(|(_, items)| items)
    }

    /// The arguments of a call.
    fn arguments(&self) -> impl Iterator<Item = &Item<'a>> {
        self.field("args").flat_map(|item| match item {
            Item::List(arguments) => arguments.as_slice(),
            _ => &[],
        })
    }
}

impl Item<'_> {
    /// The numbers of a field: its value, or the members of a list of numbers.
    fn numbers(&self) -> Box<dyn Iterator<Item = i64> + '_> {
        match self {
            Item::Atom(atom) => Box::new(atom.parse().ok().into_iter()),
            Item::List(items) if matches!(items.first(), Some(Item::Atom("o" | "i" | "b" | "x"))) => {
                Box::new(items.iter().flat_map(Item::numbers))
            }
            _ => Box::new(std::iter::empty()),
        }
    }

    fn add_calls(&self, calls: &mut Vec<ExpressionCall>) {
        match self {
            Item::Atom(_) => {}
            Item::List(items) => items.iter().for_each(|item| item.add_calls(calls)),
            Item::Node(node) => {
                let may_be_constant = !node.arguments().any(Item::is_column);
                for (field, items) in &node.fields {
                    let oids = || items.iter().flat_map(Item::numbers).filter_map(|oid| oid.try_into().ok());
                    let call = |function, operator| ExpressionCall { function, operator, may_be_constant };
                    if lists(FUNCTIONS, field) {
                        calls.extend(oids().map(|oid| call(oid, 0)));
                    } else if lists(OPERATORS, field) {
                        calls.extend(oids().map(|oid| call(0, oid)));
                    }
                    items.iter().for_each(|item| item.add_calls(calls));
                }
            }
        }
    }

    /// True for a column, and for a function of a column that the planner can't make a constant of: with a NULL among its arguments, a
    /// strict one is NULL.
    fn is_column(&self) -> bool {
        let Item::Node(node) = self else { return false };
        match node.name {
            "VAR" => true,
            "RELABELTYPE" => node.field("arg").any(Item::is_column),
            "FUNCEXPR" => {
                node.arguments().any(Item::is_column)
                    && node.arguments().all(|argument| argument.is_column() || argument.is_value())
            }
            _ => false,
        }
    }

    /// True for a constant that isn't NULL.
    fn is_value(&self) -> bool {
        let Item::Node(node) = self else { return false };
        node.name == "CONST" && node.field("constisnull").any(|item| matches!(item, Item::Atom("false")))
    }

    fn has_default(&self) -> bool {
        match self {
            Item::Atom(_) => false,
            Item::List(items) => items.iter().any(Item::has_default),
            Item::Node(node) => {
                node.name == "SETTODEFAULT"
                    || node.fields.iter().any(|(_, items)| items.iter().any(Item::has_default))
            }
        }
    }
}

/// The rest of a tree.
struct Tokens<'a>(&'a str);

impl<'a> Tokens<'a> {
    /// As `pg_strtok` of PostgreSQL cuts: at blanks and brackets, unless a backslash precedes them.
    fn next(&mut self) -> Option<&'a str> {
        let rest = self.0.trim_start_matches([' ', '\n', '\t']);
        let bracket = |c: char| matches!(c, '(' | ')' | '{' | '}');
        let mut escaped = false;
        let ends = |c: char| {
            let ends = !escaped && (matches!(c, ' ' | '\n' | '\t') || bracket(c));
            escaped = !escaped && c == '\\';
            ends
        };
        let len = if rest.starts_with(bracket) { 1 } else { rest.find(ends).unwrap_or(rest.len()) };
        let (token, rest) = rest.split_at(len);
        self.0 = rest;
        (!token.is_empty()).then_some(token)
    }

    fn peek(&self) -> Option<&'a str> {
        Tokens(self.0).next()
    }

    /// The next item; `None` at the end, and before the end of a list or node.
    fn item(&mut self, depth: usize) -> Result<Option<Item<'a>>, UnknownPart> {
        if depth > DEEPEST {
            return Err(UnknownPart("an expression too deep to read".to_owned()));
        }
        Ok(match self.peek() {
            None | Some(")" | "}") => None,
            Some("(") => {
                self.next();
                let mut items = Vec::new();
                while let Some(item) = self.item(depth + 1)? {
                    items.push(item);
                }
                self.close(")")?;
                Some(Item::List(items))
            }
            Some("{") => {
                self.next();
                Some(Item::Node(self.node(depth)?))
            }
            Some(_) => self.next().map(Item::Atom),
        })
    }

    fn node(&mut self, depth: usize) -> Result<Node<'a>, UnknownPart> {
        let mut node = Node { name: self.next().unwrap_or_default(), fields: Vec::new() };
        while let Some(token) = self.peek().filter(|token| *token != "}") {
            let field = token.strip_prefix(':').ok_or_else(|| UnknownPart(node.name.to_owned()))?;
            self.next();
            let mut items = Vec::new();
            while self.peek().is_some_and(|token| !token.starts_with(':'))
                && let Some(item) = self.item(depth + 1)?
            {
                items.push(item);
            }
            node.fields.push((field, items));
        }
        self.close("}")?;
        Ok(node)
    }

    fn close(&mut self, bracket: &str) -> Result<(), UnknownPart> {
        let closed = self.next() == Some(bracket);
        if closed { Ok(()) } else { Err(UnknownPart(format!("a tree without its `{bracket}`"))) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn references(tree: &str) -> Result<References, UnknownPart> {
        let mut references = References::default();
        references.add(tree).map(|()| references)
    }

    #[test]
    fn a_query_refers_to_functions_operators_types_and_relations() {
        let tree = "({QUERY :commandType 4 :resultRelation 2 :rtable ({RTE :alias <> :relid 16390 :relkind r} {RTE :eref {ALIAS :aliasname \
                    a\\ \\(b :colnames (\"x\" \"y\\ z\")} :relid 16400}) :targetList ({FUNCEXPR :funcid 2626 :funcresulttype 2278 :args \
                    ({CONST :consttype 701 :constvalue 8 [ 0 0 -16 63 ] :location -1})} {ROWCOMPARE :opnos (o 97 98) :largs ({VAR :vartype 23})})})";
        let found = references(tree).unwrap();
        assert_eq!(found.functions, BTreeSet::from([2626]));
        assert_eq!(found.operators, BTreeSet::from([97, 98]));
        assert_eq!(found.types, BTreeSet::from([23, 701, 2278]));
        assert_eq!(found.relations, BTreeMap::from([(16390, 0), (16400, DELETE)]));
    }

    #[test]
    fn a_part_that_is_unknown_is_an_error() {
        for (tree, unknown) in [
            ("{MERGEACTION :matched true}", "MERGEACTION"),
            ("{VAR :vartype 23 :varfuture 4711}", "VAR.varfuture"),
            ("{VAR :vartype 23 :varfuture (o 4711)}", "VAR.varfuture"),
            ("{VAR :vartype 23", "a tree without its `}`"),
            ("({VAR :vartype 23}", "a tree without its `)`"),
        ] {
            assert_eq!(references(tree), Err(UnknownPart(unknown.to_owned())), "{tree}");
        }
        let deep = format!("{}{}", "(".repeat(5_000), ")".repeat(5_000));
        assert!(references(&deep).is_err());
    }

    #[test]
    fn a_call_is_constant_unless_an_argument_is_certainly_a_column() {
        let call = |arguments: &str| format!("{{FUNCEXPR :funcid 16384 :args ({arguments})}}");
        let inner = |arguments: &str| format!("{{FUNCEXPR :funcid 870 :args ({arguments})}}");
        let (column, value, null) = (
            "{VAR :varattno 1}",
            "{CONST :constisnull false :constvalue 4 [ 1 0 ]}",
            "{CONST :constisnull true}",
        );
        for (arguments, may_be_constant) in [
            (column.to_owned(), false),
            (format!("{value} {column}"), false),
            (format!("{{RELABELTYPE :arg {column}}}"), false),
            (inner(column), false),
            (inner(&format!("{column} {value}")), false),
            (String::new(), true),
            (value.to_owned(), true),
            (null.to_owned(), true),
            (inner(value), true),
            (inner(&format!("{column} {null}")), true),
            (format!("{{COALESCE :args ({value} {column})}}"), true),
            ("{CASETESTEXPR :typeId 25}".to_owned(), true),
        ] {
            let calls = ExpressionCall::all(&call(&arguments)).unwrap();
            let call = calls.iter().find(|call| call.function == 16_384).unwrap();
            assert_eq!(call.may_be_constant, may_be_constant, "{arguments}");
        }
        let operator =
            ExpressionCall::all("{OPEXPR :opno 96 :opfuncid 65 :args ({VAR :varattno 1})}").unwrap();
        assert_eq!(operator[0], ExpressionCall { function: 0, operator: 96, may_be_constant: false });
    }

    #[test]
    fn a_name_like_a_field_hides_nothing() {
        let tree = "{ALIAS :aliasname :relid :colnames (\":funcid\" \"4\")} {FUNCEXPR :funcid 4}";
        assert_eq!(references(tree).unwrap().functions, BTreeSet::from([4]));
    }
}
