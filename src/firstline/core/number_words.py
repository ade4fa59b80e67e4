"""Words that say what the number beside them is, in the languages that firstline reads."""

from typing import Final

from firstline.core.expressions import ExpressionSet
from firstline.core.readable_view import words_pattern

_PHONE: Final = (
    r"phone|\btel\b|\btel[.:]|\btel ?n|telef|teléf|télép|télé?f|\bmobile|\bmobil|\bcell|\bcall\b|\bcalling|\bring\b"
    r"|\bsms\b|\btext me|whats ?app|\bwa\.me|telegram|signal|viber"
    r"|\bfax|\bhandy|rufnummer|rückruf|ruf(?:en|t)? mich|anrufen|\bportable|appel|rappel|\bgsm\b|móvil|\bmovil"
    r"|celular|llám|llam[ae]|m[oó]vel|telem[oó]vel|ligue|ligar|cellulare"
    r"|chiam|\bbel\b|\bbellen|mobiel|zadzwo|dzwoni|komórk|\bnumer kontaktowy|телефон|\bтел\b|\bтел[.:]|мобильн|сотов"
    r"|звон|cep (?:no|num|tel)|cebim|arayın|arayin|\bara\b|numaram|beni ara"
    r"|电话|電話|手机|手機|联系方式|联系电话|致电|拨打|携帯|ケ-タイ|연락처|전화|휴대폰|핸드폰|번호로|هاتف|جوال|موبايل|محمول|اتصل|تليفون|تلفون|واتس|رقمي"
    r"|contact (?:number|me at|no)|my number|reach me|numéro|meine nummer|mi n[uú]mero|meu n[uú]mero|mio numero"
    r"|mijn nummer|mój numer|мой номер"
)
_PERSON: Final = (
    r"\bssn\b|social security|\bsin\b[:# ]|\bnino\b|\bni (?:number|no)|national insurance|\bnhs\b|steuer-?(?:id"
    r"|nummer|identifikationsnummer)|\bidnr|identifikationsnummer|steuerliche|ausweis|sozialversicherung"
    r"|rentenversicherung|personalnummer|passport|reisepass|driv(?:er|ing)'?s? licen[cs]e|führerschein|national id"
    r"|identity (?:card|number)|\bid card|tax(?:payer)? id|\bitin\b|\btin\b|sécurité sociale|securite sociale"
    r"|\bnir\b"
    r"|num(?:é|e)ro (?:de )?sécu|\bnss\b|passeport|carte d'identité|numéro fiscal|\bspi\b|\bdni\b"
    r"|\bn\.?i\.?e\.?\b[:. ]|\bnif\b|documento (?:nacional|de identidad)|pasaporte|carnet de conducir|codice fiscale"
    r"|\bc\.?f\.? ?:|carta d'identità"
    r"|tessera sanitaria|passaporto|patente|contribuinte|cartão de cidadão|cart[aã]o do cidad[aã]o|passaporte"
    r"|\bcpf\b|\bcnpj\b|\brg\b:? |\bniss\b|\bbsn\b|burgerservice|sofinummer|paspoort|rijbewijs|identiteitskaart"
    r"|\bpesel\b|\bnip\b|dow[oó]d(?:u|em)? osobist|\bpaszport|prawo jazdy"
    r"|снилс|\bинн\b|паспорт|водительск|удостоверени|t\.?c\.? ?(?:kimlik|no|nr)|kimlik|\btckn|pasaport|ehliyet|身份证"
    r"|身分證|身分证|护照|護照|驾驶证|驾照|マイナンバ-|個人番号|パスポ-ト|旅券|運転免許|在留カ-ド|주민등록|주민번호|여권|운전면허|외국인등록"
    r"|هوية|الإقامة|اقامة|إقامة|الرقم القومي|رقم قومي|جواز|رخصة القيادة|aadhaar|aadhar|आधार|\bpan (?:card|no|number)"
    r"|\bcurp\b|\brfc\b|personnummer|\bcnp\b|rijksregister|\bahv\b|\brut\b|\bcuil\b|\bcuit\b|\bcédula|\bcedula"
)
_CARD: Final = (
    r"\bcard\b|credit ?card|debit|\bvisa\b|master ?card|\bamex\b|american express|kreditkarte|kartennummer|\bkarte"
    r"|carte (?:bancaire|bleue|de crédit)|num(?:é|e)ro de carte|\bcb\b|tarjeta|cart[aã]o|carta di credito|\bcarta\b"
    r"|creditcard|\bpas(?:nummer)?\b|kart[aąęyu]|карт[аыуеой]|\bkart|银行卡|信用卡|卡号|クレジット|カ-ド|카드|بطاقة|البطاقة"
)
_THING: Final = (
    r"\border|\bpurchase|\binvoice|\btracking|\bshipment|\bparcel|\bpackage|\bticket|\bcase\b|\breference|\bref\b"
    r"|\bref[.:#]|\btransaction|\btxn|\bbooking|\breservation|\bserial|\bs/n|\bsku\b|\bmodel|\bpart (?:no|num)"
    r"|\bimei|\bisbn|\bean\b|\bupc\b|\bgtin|\basin|\bbatch|\blot\b|\berror|\bcode\b"
    r"|\bversion|\bbuild|\bid[:#= ]{0,3}$|\bcustomer (?:no|num|id)|\baccount (?:no|num|id)|\border-?id|\bvat|\brma\b"
    r"|\bincident|\bbug\b|\bissue\b|\bcontract|\barticle|\bproduct|\bitem|\btimestamp|\bepoch|\bamount|\btotal"
    r"|\bprice|\buuid|\bhash|\bcommit|\bport\b|\bline\b|\bdelivery (?:no|num)|\bquote|\bmeter|\bwaybill|\bawb"
    r"|\bfedex|\bups\b|\bdhl\b|\busps\b"
    r"|bestell|rechnung|sendung|paket|vorgang|auftrag|kundennummer|kunden-?nr|vertrag|artikel|seriennummer"
    r"|lieferschein|fehler|buchung|betrag|zähler|aktenzeichen|\baz\.?:? ?$|commande|facture|suivi|colis|dossier"
    r"|référence|client n|numéro de (?:client|série|contrat|commande|suivi|facture)|erreur|montant|contrat"
    r"|réservation"
    r"|pedido|factura|env[ií]o|seguimiento|referencia|reserva|incidencia|importe|contrato|número de (?:serie|cliente"
    r"|pedido|factura)|encomenda|fatura|rastreio|rastreamento|protocolo|nota fiscal|ordine|fattura|spedizione"
    r"|tracciamento|pratica|prenotazione|importo|numero (?:cliente|di serie)|riferimento"
    r"|bestelling|factuur|zending|pakket|klantnummer|ordernummer|referentie|serienummer|boeking|bedrag|foutcode"
    r"|track ?(?:&|and) ?trace|zam[oó]wieni|faktur|przesył|paczk|zgłoszen|umow|kwot|błąd|rezerwacj|numer (?:seryjny"
    r"|klienta|zam)|заказ|сч[её]т[ауе]?\b|накладн|отправлени|посылк|трек|заявк|обращени|договор|артикул|серийн|ошибк"
    r"|сумм|брон|тикет"
    r"|sipariş|siparis|fatura|kargo|takip|gönderi|referans|müşteri n|seri n|hata kod|rezervasyon|sözleşme|tutar"
    r"|talep n|订单|訂單|单号|單號|发票|快递|物流|运单|工单|编号|流水号|序列号|合同|金额|错误|型号|版本"
    r"|注文|請求書|追跡|伝票|問い合わせ番号|問合せ番号"
    r"|お問い合わせ|製造番号|予約|型番|エラ-"
    r"|金額|会員番号|お客様番号"
    r"|주문|송장|운송장|배송|택배|영수증|예약|접수|오류|금액|일련번호|고객번호|모델|طلب|شحنة|الشحن|تتبع|فاتورة|مرجع|تذكرة|حجز|تسلسلي|خطأ|مبلغ|العقد"
    r"|[#№]|\bno\.?:?$|\bnr\.?:?$|\bn[°º]"
)

PHONE, PERSON, CARD, THING = range(4)
_SETS: Final = ExpressionSet([words_pattern(words) for words in (_PHONE, _PERSON, _CARD, _THING)])
_NEAREST: Final = 14
_REACH: Final = 44


def words_before(text: str, position: int, *, blank: str) -> frozenset[int]:
    """What the words before a number say that it is: those of the nearest kind, then those further away.

    Args:
        text: as it is read.
        position: where the number begins.
        blank: a character that ends the search, because something else is named there.
    Returns: `PHONE`, `PERSON`, `CARD` and `THING`, as far as they are said; only the nearest ones when a word stands
        close by.
    """
    before = text[max(0, position - _REACH) : position]
    before = before[before.rfind(blank) + 1 :]
    for reach in (_NEAREST, 26, _REACH):
        part = before[-reach:]
        found = _SETS.match(part.encode(errors="replace"))
        if found:
            return frozenset(found)
        if len(part) == len(before):
            break
    return frozenset()


def words_after(text: str, position: int, *, blank: str) -> frozenset[int]:
    """The same for the few words behind a number."""
    after = text[position : position + 24]
    cut = after.find(blank)
    return frozenset(_SETS.match((after if cut < 0 else after[:cut]).encode(errors="replace")))


PERSON_MARK: Final = words_pattern(_PERSON)
