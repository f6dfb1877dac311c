"""The published statuses of orders, with the numbers that the sandbox gives them.

3, 7 and 59 are published; the others differ from site to site and are made up.
"""

ORDER_STATUSES = {
    "Initiated": 1,
    "Confirmed": 2,
    "InProgress": 3,
    "InvalidCardNumber": 4,
    "Completed": 7,
    "Cancelled": 8,
    "PaymentProcessing": 9,
    "PaymentProcessingError": 10,
    "ToBePrinted": 11,
    "ReadyToDispatch": 12,
    "PersonaliseItems": 13,
    "PendingPaymentProcessing": 14,
    "ExportedToExternal": 15,
    "ShippedToStore": 16,
    "ReceivedInStore": 17,
    "PendingRiskEvaluation": 18,
    "PotentiallyFraudulent": 19,
    "FraudulentOrder": 20,
    "PendingManualPayment": 21,
    "SendInProgress3PL": 58,
    "DispatchInProgress3PL": 59,
    "SendError3PL": 60,
    "UpdateError3PL": 61,
    "OrderSubmitting": 70,
    "ProcessingMOTO": 71,
    "Unknown": 99,
}
